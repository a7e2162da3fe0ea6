"""``cahp.recover``, ``cahp.export`` and ``cahp.report``: a model or a mask for other tools, a run as one page."""

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Unpack

from cahp import hub, models
from cahp.api import bundled
from cahp.api.options import (
    AnyData,
    AnyMask,
    AnyModel,
    GivenMask,
    Name,
    ShowProgress,
    check_bounds,
    read_call,
    read_mask_for,
    show_progress,
)
from cahp.board.colourings import colour_by_measures
from cahp.comparison.result import Comparison
from cahp.exports import checkpoints, formats
from cahp.exports.form import MaskForm, Pruned
from cahp.exports.live import Live, live_of
from cahp.exports.masks import MaskOrigin, kept_heads
from cahp.exports.report import Origin, recipe, run_report, site_page, write_report
from cahp.exports.run_folder import read_run
from cahp.features import measures
from cahp.figures.comparison_blocks import show_means
from cahp.models.cards import ModelCard
from cahp.output import AnyFolder, Output
from cahp.recoveries import NONE, RECOVERIES, get_recovery
from cahp.run.bench import check_classifier, open_bench
from cahp.run.document import BY_HAND
from cahp.run.evidence import stored_roles
from cahp.run.keywords import ModelOptions
from cahp.run.measures import MaskSubject, check_wanted, find_lines, measure_wanted
from cahp.run.recoveries import cut_model
from cahp.run.resources import Resources
from cahp.run.settings import check_recovery, identify_model, parse_duration
from cahp.store import Store
from cahp.values import CahpError, Fields, JsonObject, OptionError


def recover(
    model: AnyModel | None = None,
    data: AnyData | None = None,
    *,
    mask: AnyMask | None = None,
    out: AnyFolder,
    force: bool = False,
    recover: str | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    command: str = "",
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> JsonObject:
    """Recover a pruned model, write it to ``out`` as a checkpoint of the original shapes, and evaluate it.

    It is ``cahp.export`` with ``format="drop-in"``: the output weights of pruned heads are zero, so any tool that loads
    the original model loads this one.

    Args:
        model: A run, which tells model, data, mask and options that are not given: its folder, one of its files, or
            the result of ``cahp.prune``. Or a built-in, a hub id, a folder, a GGUF file, or a ``Settings`` with all
            options (None: the model of the mask).
        data: A built-in, a file, a folder, ``hub:org/name``, a table or a list of texts (None: those of the model).
        mask: A head mask, its array, a dict of kept heads, or its file (None: that of the run).
        out: The folder to write to.
        force: Use a mask that was made for another model.
        recover: The recovery; see ``cahp.recoveries`` (None: that of the ``Settings``, else ``"auto"``).
        epochs: Number of epochs of a training (None: the recovery's default), as are the next two.
        learning_rate: Highest learning rate.
        batch: Number of texts per batch.
        command, progress, yes, store: See ``cahp.export``.
        **options: The options of ``cahp recover``, by the names of ``cahp.Settings``.

    Returns:
        The document that ``cahp recover --json`` prints, which is that of ``cahp.export``.

    Raises:
        CahpError: If model, mask and data do not fit together; one line with the next step.
    """
    own = {"recover": recover}
    settings, mask = read_call("recover", model, data, options, mask=mask, own=own, defaults={"recover": "auto"})
    schedule = check_bounds(epochs=epochs, learning_rate=learning_rate, batch=batch)
    recovery = get_recovery(settings.recover, choices=lambda row: row is not NONE)
    if schedule and not recovery.trains:
        trainings = ", ".join(row.name for row in RECOVERIES.values() if row.trains)
        flag = f"--{next(iter(schedule)).replace('_', '-')}"
        raise OptionError(
            f"{flag} needs a training, and {recovery.name} has none; leave it out, or choose one of --recover "
            f"{trainings}"
        )
    return export(
        settings,
        mask=mask,
        out=out,
        force=force,
        format="drop-in",
        schedule=schedule,
        command=command,
        progress=progress,
        yes=yes,
        store=store,
    )


def export(
    model: AnyModel | None = None,
    data: AnyData | None = None,
    *,
    mask: AnyMask | None = None,
    out: AnyFolder,
    force: bool = False,
    format: str = "compact",
    recover: str | None = None,
    schedule: Fields | None = None,
    push: str | None = None,
    push_public: bool = False,
    command: str = "",
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> JsonObject:
    """Write a pruned model in a format for other tools, and compare it with the model in memory; or convert a mask.

    Args:
        model: A run, which tells model, data, mask and options that are not given: its folder, one of its files, or
            the result of ``cahp.prune``. Or a built-in, a hub id, a folder, a GGUF file, or a ``Settings`` with all
            options (None: the model of the mask).
        data: A built-in, a file, a folder, ``hub:org/name``, a table or a list of texts (None: those of the model).
        mask: A head mask, its array, a dict of kept heads, or its file (None: that of the run).
        out: The folder to write to; of a mask, also the name of its file.
        force: Use a mask that was made for another model.
        format: Name of the format; an unknown name lists all formats.
        recover: The recovery (None: that of the run or the ``Settings``, else ``"none"``).
        schedule: Changes of the usual ``epochs``, ``learning_rate`` and ``batch`` of a training, by name.
        push: The name ``org/name`` of a new repository of the hub, to which the folder is uploaded: private, unless
            it is ``push_public``. ``yes=True`` agrees to it; a token that may write is needed. If the upload fails,
            the folder stays.
        command: The command line to record in the model card.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp export``, by the names of ``cahp.Settings``.

    Returns:
        The document that ``cahp export --json`` prints.

    Raises:
        CahpError: If model, mask, data and format do not fit together, or the written model gives other answers.
    """
    settings, mask = read_call("export", model, data, options, mask=mask, own={"recover": recover})
    output = Output.of(out)
    card = identify_model(settings)
    read = read_mask_for(card, mask, force=force)
    form = formats.find(format)
    store = store or Store()
    if push_public and push is None:
        raise OptionError("--push-public needs a repository; name it with --push")
    if isinstance(form, MaskForm):
        if push is not None:
            raise OptionError(f"--push uploads a model, and {form.key} is a mask alone; leave it out")
        document = _convert_mask(form, card, read, output, store)
        if settings.recover != NONE.name:
            noun = get_recovery(settings.recover).noun
            document["notices"].append(
                f"a mask has no weights, so the {noun} is not in it; --format compact writes both"
            )
        return document
    form.check_installed()
    checkpoints.claimed(output, card)
    check_classifier(settings, card)
    builtin = models.BUILTINS.get(card.id)
    has_data = settings.data is not None or bool(builtin and builtin.data)
    formats.check_export(form, card, read.mask, get_recovery(settings.recover).name)
    if not has_data:
        if settings.recover != NONE.name:
            raise OptionError(
                f"--recover {settings.recover} needs texts to recover the model on; name some with --data"
            )
        if settings.abilities:
            raise OptionError("--abilities needs texts to measure the model on; name some with --data")
        check_recovery(settings)
    seconds = None
    if settings.latency:
        seconds = parse_duration(settings.latency_time, "--latency-time")
    with show_progress(progress, yes=yes) as reporter:
        upload = None
        if push is not None:
            upload = hub.NewRepository(push, public=push_public)
            upload.check()
        bench = None
        outcome = checkpoints.UNMEASURED
        findings = {}
        notices = list(read.notices)
        if has_data:
            bench = open_bench(settings, store=store, card=card, progress=reporter, watch=reporter.watch)
            # Of what a run measures, an export measures what is asked for.
            asked = set(settings.measure)
            if settings.abilities:
                asked.add("abilities")
            chosen = [one for one in measures() if one.name in asked]
            check_wanted(chosen, bench)
            outcome, recovered = checkpoints.recovered(bench, read.mask, recover=settings.recover, schedule=schedule)
            cut = cut_model(bench.model, read.mask, recovered)
            pruned = Pruned(bench.model, cut, read.mask, bench.evaluation.inputs)
            measured = measure_wanted(chosen, bench, read.mask, recovered)
            findings = {name: part for name, part in measured.items() if part is not None}
            notices += [*bench.notices, *bench.cut_notices]
        else:
            whole = Resources(card, store=store, device=settings.device, progress=reporter).model
            pruned = Pruned(whole, cut_model(whole, read.mask), read.mask)
        document = {
            "model": card.id,
            **checkpoints.describe_data(bench),
            "kept": kept_heads(read.mask),
            **findings,
            "parameters": pruned.parameters,
            "pushed": None,
            "loads": formats.name_class(form.loads, card),
            "notices": notices,
        }
        lines = find_lines(measures(), findings, MaskSubject(read.mask, settings.recover))
        method = str(read.content.get("method", BY_HAND))
        provenance = checkpoints.Provenance(method, settings.recover, command, (*read.notices, *lines))
        document |= checkpoints.write(
            form,
            output,
            pruned,
            bench=bench,
            outcome=outcome,
            provenance=provenance,
            seconds=seconds,
            progress=reporter,
        )
        if upload is not None:
            try:
                document["pushed"] = upload.send(output.folder, output.written)
            except CahpError as error:
                raise CahpError(f"{output.folder} was written, but not uploaded: {error}") from None
        return document


@dataclass(frozen=True)
class _Known:
    """The fields of a mask's file that are written again, with the types that they must have."""

    method: str
    budget: dict[str, int | None]
    metrics: dict[str, dict[str, int | float | list[float] | None] | None]


def _convert_mask(form: MaskForm, card: ModelCard, given: GivenMask, output: Output, store: Store) -> JsonObject:
    """Write a mask in another form, with the roles of its heads if known."""
    import msgspec

    mask = given.mask
    origin = MaskOrigin(card.id, BY_HAND, {"attained": mask.count}, model_sha256=card.origin)
    if not given.notices:
        with suppress(msgspec.ValidationError):
            known = msgspec.convert(given.content, _Known)
            origin = replace(origin, method=known.method, budget=known.budget, metrics=known.metrics)
    roles = stored_roles(Resources(card, store=store))
    if roles is not None:
        origin = replace(origin, columns=roles.columns)
    file = output.file or form.file
    if Path(file).suffix != Path(form.file).suffix:
        raise OptionError(f"--out {file} has another ending than {form.file}, which --format {form.key} writes")
    written = form.write(mask, origin)
    output.check_file(file, written)
    output.write({file: written})
    return {
        "model": origin.model,
        "kept": kept_heads(mask),
        "form": form.key,
        "file": file,
        "notices": [*given.notices],
    }


# Reports -----------------------------------------------------------------------------------------------------


#: The bundled comparison on the page for a static host.
_COMPARED = "minilm-sst5"


def report(
    run: Name,
    out: Name | None = None,
    *,
    static: bool = False,
    force: bool = False,
) -> JsonObject:
    """Write the folder of a run as one HTML file that opens offline; its board shows figures while it is dragged.

    Args:
        run: The folder of ``cahp prune --out``, or of ``PruneResult.save``.
        out: The HTML file (None: ``report.html`` in the folder of the run).
        static: Leave out the board, for mail that forbids scripts.
        force: Replace a file that is no report.

    Returns:
        The document that ``cahp report --json`` prints.

    Raises:
        CahpError: If the run cannot be read or the file cannot be written; one line with the next step.
    """
    place = Path(run)
    files = read_run(place)
    text = run_report(files, day=date.today(), static=static, measures=measures())
    if out is None:
        folder = place if place.is_dir() else place.parent
        out = folder / "report.html"
    file = write_report(text, Path(out), force=force)
    document = {
        "file": str(file),
        "bytes": len(text.encode()),
        "answers": False,
        "measured": None,
        "budgets": None,
    }
    if not static and (live := live_of(files)) is not None:
        measured, budgets = live.table.measured()
        document |= {"answers": True, "measured": measured, "budgets": budgets}
    return document


def site(folder: Name, *, force: bool = False) -> JsonObject:
    """Write a page for a static host: the boards of the bundled runs, what their models can still do, a comparison.

    Args:
        folder: Where ``index.html`` is written.
        force: Replace an ``index.html`` of another kind.

    Returns:
        The document that ``cahp report --site --json`` prints: the file, its size in bytes, and the models.

    Raises:
        CahpError: If no run ships with this copy, or the file cannot be written; one line with the next step.
    """
    runs = []
    for name in bundled.RUNS:
        bundle = bundled.read_run(name)
        if bundle is not None:
            run = bundle.document
            clusters = bundle.evidence()
            labels = clusters.groups(run.mask.count)[0]
            live = Live(clusters, bundle.swept_table(), labels, colour_by_measures(measures(), run))
            origin = Origin(bundle.made["machine"], bundle.made["date"], recipe(run.settings), bundled=True)
            runs.append((run, live, origin))
    if not runs:
        raise CahpError("no finished run ships with this copy of the package; install it from its wheel")
    results = Comparison.read(bundled.comparisons_folder() / _COMPARED).results
    # The last recovery in closed form, which takes no training.
    recovery = next(name for name in reversed(results.document.recoveries) if not RECOVERIES[name].trains)
    compared = {f"Methods compared on {results.document.model.id}": [show_means(results, recovery)]}
    text = site_page(runs, compared, measures=measures())
    file = write_report(text, Path(folder) / "index.html", force=force)
    return {"file": str(file), "bytes": len(text.encode()), "models": [run.model.id for run, *_ in runs]}
