"""``cahp.recover``, ``cahp.export`` and ``cahp.report``: a model or a mask for other tools, a run as one page."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Unpack

from cahp import hub, models
from cahp.api import bundled
from cahp.api.keywords import ModelOptions
from cahp.api.options import (
    GivenMask,
    Name,
    ShowProgress,
    find_model,
    read_mask_for,
    read_settings,
    show_progress,
)
from cahp.exports import checkpoints, formats
from cahp.exports.form import Form, MaskForm, ModelForm, Pruned
from cahp.exports.live import Live, live_of
from cahp.exports.masks import MaskOrigin, kept_heads
from cahp.exports.report import Origin, recipe, run_report, site_page, write_report
from cahp.exports.run_folder import read_run
from cahp.features import measures
from cahp.figures.comparison_blocks import show_means
from cahp.models.cards import ModelCard
from cahp.output import Output, UnwrittenError
from cahp.recoveries import NONE, RECOVERIES, get_recovery
from cahp.run.bench import check_classifier, open_bench
from cahp.run.document import BY_HAND, outcome_records
from cahp.run.evidence import stored_roles
from cahp.run.measures import MaskSubject, check_wanted, find_lines, measure_wanted
from cahp.run.recoveries import cut_model
from cahp.run.resources import Resources
from cahp.run.settings import Settings, check_recovery, identify_model, parse_duration
from cahp.store import Store
from cahp.values import CahpError, HeadMask, OptionError


def recover(
    model: Name | Settings | None = None,
    data: Name | None = None,
    *,
    mask: HeadMask | Name,
    out: Name | Output,
    force: bool = False,
    recover: str | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Recover a pruned model, write it to ``out`` as a checkpoint of the original shapes, and evaluate it.

    The output weights of pruned heads are zero, so any tool that loads the original model loads this one.

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options (None: that of
            the mask).
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        mask: A head mask or its file.
        out: The folder to write to.
        force: Use a mask that was made for another model.
        recover: The recovery; see ``cahp.recoveries`` (None: that of the ``Settings``, else ``"auto"``).
        epochs: Number of epochs of a training (None: the recovery's default), as are the next two.
        learning_rate: Highest learning rate.
        batch: Number of texts per batch.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp recover``, by the names of ``cahp.Settings``.

    Returns:
        The document that ``cahp recover --json`` prints. After a training, ``metrics.refitted`` and ``delta.refitted``
        belong to the refitted model.

    Raises:
        CahpError: If model, mask and data do not fit together; one line with the next step.
        UnwrittenError: If the folder cannot be written; the error carries the document.
    """
    from cahp.models.saving import save_network
    from cahp.models.surgery import restore_shapes

    if model is None:
        model = find_model(mask)
    settings = read_settings("recover", model, data, options, own={"recover": recover}, defaults={"recover": "auto"})
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch": batch}
    schedule = {name: value for name, value in given.items() if value is not None}
    with show_progress(progress, yes=yes) as reporter:
        recovery = get_recovery(settings.recover, choices=lambda row: row is not NONE)
        if schedule and not recovery.trains:
            trainings = ", ".join(row.name for row in RECOVERIES.values() if row.trains)
            flag = f"--{next(iter(schedule)).replace('_', '-')}"
            raise OptionError(
                f"{flag} needs a training, and {recovery.name} has none; leave it out, or choose one of --recover "
                f"{trainings}"
            )
        card = identify_model(settings)
        output = checkpoints.claimed(Output.of(out), card)
        read = read_mask_for(card, mask, force=force)
        keep = read.mask
        formats.check_export(formats.model_form("drop-in"), card, keep, recovery.name)
        bench = open_bench(settings, store=store, card=card, progress=reporter, watch=reporter.watch)
        results, recovered = checkpoints.recovered(bench, keep, recover=recovery.name, schedule=schedule)
        # A training is measured beside the refit, as the model ``refitted``.
        refitted = None
        if recovered is not None:
            refitted = recovered.start
        if recovery.needs_labels and not card.no_refit:
            refitted = bench.recoveries.refit(keep)
            results["refit"] = refitted.refit
        if refitted is not None:
            beside = bench.measurements.outcomes(bench.evaluation, keep, recovered=refitted, seed=settings.seed)
            results |= outcome_records({**results["outcomes"], "refitted": beside["recovered"]})
        pruned = cut_model(bench.model, keep, recovered)
        document = {
            "model": card.id,
            **checkpoints.describe_data(bench),
            "kept": kept_heads(keep),
            **results,
            "notices": [*read.notices, *bench.notices, *bench.cut_notices],
        }
        with UnwrittenError.carrying(document):
            save_network(restore_shapes(bench.model, pruned, keep), pruned.tokenizer, output)
        return document


def export(
    model: Name | Settings | None = None,
    data: Name | None = None,
    *,
    mask: Name,
    out: Name | Output,
    force: bool = False,
    format: str = "compact",
    recover: str | None = None,
    push: str | None = None,
    push_public: bool = False,
    command: str = "",
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Write a pruned model in a format for other tools, and compare it with the model in memory; or convert a mask.

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options (None: that of
            the mask).
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        mask: The file of a head mask.
        out: The folder to write to.
        force: Use a mask that was made for another model.
        format: Name of the format; an unknown name lists all formats.
        recover: The recovery (None: that of the ``Settings``, else ``"auto"`` if there are data, else ``"none"``).
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
        UnwrittenError: If the folder cannot be written; the error carries the document.
    """
    if model is None:
        model = find_model(mask)
    settings = read_settings("export", model, data, options, own={"recover": recover})
    output = Output.of(out)
    card = identify_model(settings)
    read = read_mask_for(card, mask, force=force)
    keep = read.mask
    form = formats.find(format)
    upload = _read_upload(form, push, public=push_public)
    if isinstance(form, MaskForm):
        if recover not in (None, NONE.name):
            raise OptionError(f"--recover changes weights, and --format {form.key} writes a mask alone; leave it out")
        return _convert_mask(form, card, read, output=output, store=store)
    assert isinstance(form, ModelForm)
    form.check_installed()
    checkpoints.claimed(output, card)
    check_classifier(settings, card)
    builtin = models.BUILTINS.get(card.id)
    has_data = settings.data is not None or bool(builtin and builtin.data)
    if has_data and recover is None and not isinstance(model, Settings):
        # The settings name the recovery, by which its texts are drawn.
        settings = replace(settings, recover="auto")
    formats.check_export(form, card, keep, get_recovery(settings.recover).name)
    if not has_data:
        _check_without_data(settings)
    with show_progress(progress, yes=yes) as reporter:
        if upload is not None:
            upload.check()
        bench = None
        outcome = checkpoints.UNMEASURED
        findings: dict[str, Any] = {}
        notices = list(read.notices)
        if has_data:
            bench = open_bench(settings, store=store, card=card, progress=reporter, watch=reporter.watch)
            # Of what a run measures, an export measures what is asked for.
            asked = set(settings.measure)
            if settings.abilities:
                asked.add("abilities")
            chosen = [one for one in measures() if one.name in asked]
            check_wanted(chosen, bench)
            outcome, recovered = checkpoints.recovered(bench, keep, recover=settings.recover)
            pruned = Pruned(bench.model, cut_model(bench.model, keep, recovered), keep, bench.evaluation.inputs)
            measured = measure_wanted(chosen, bench, keep, recovered)
            findings = {name: part for name, part in measured.items() if part is not None}
            notices += [*bench.notices, *bench.cut_notices]
        else:
            whole = Resources(card, store=store or Store(), device=settings.device, progress=reporter).model
            pruned = Pruned(whole, cut_model(whole, keep), keep)
        seconds = None
        if settings.latency:
            seconds = parse_duration(settings.latency_time, "--latency-time")
        document = {
            "model": card.id,
            **checkpoints.describe_data(bench),
            "kept": kept_heads(keep),
            **outcome,
            **findings,
            "parameters": {"full": pruned.whole.parameters, "pruned": pruned.cut.parameters},
            "form": form.key,
            # Known once the model is written.
            **dict.fromkeys(("bytes", "difference", "agreement", "tried", "written", "files", "pushed")),
            "loads": formats.as_asked(form.loads, card),
            "notices": notices,
        }
        lines = find_lines(measures(), findings, MaskSubject(keep, settings.recover))
        with UnwrittenError.carrying(document):
            document |= checkpoints.write(
                form,
                output,
                pruned,
                bench=bench,
                outcome=outcome,
                provenance=checkpoints.Provenance(
                    str(read.content.get("method", BY_HAND)), settings.recover, command, (*read.notices, *lines)
                ),
                seconds=seconds,
                progress=reporter,
            )
        if upload is not None:
            with UnwrittenError.carrying(document):
                try:
                    document["pushed"] = upload.send(output.folder, output.written)
                except CahpError as error:
                    raise UnwrittenError(f"{output.folder} was written, but not uploaded: {error}") from None
        return document


def _check_without_data(settings: Settings) -> None:
    """Check that nothing is asked for that needs texts.

    Raises:
        OptionError: If it is.
    """
    if settings.recover != NONE.name:
        raise OptionError(f"--recover {settings.recover} needs texts to recover the model on; name some with --data")
    if settings.abilities:
        raise OptionError("--abilities needs texts to measure the model on; name some with --data")
    check_recovery(settings)


def _read_upload(form: Form, push: str | None, *, public: bool) -> hub.NewRepository | None:
    """Read where to upload (None: nowhere).

    Raises:
        OptionError: If there is no model to upload, or no name for it.
    """
    if push is None:
        if public:
            raise OptionError("--push-public needs a repository; name it with --push")
        return None
    if isinstance(form, MaskForm):
        raise OptionError(f"--push uploads a model, and {form.key} is a mask alone; leave it out")
    return hub.NewRepository(push, public=public)


@dataclass(frozen=True)
class _Origin:
    """The fields of a mask's file that are written again, with the types that they must have."""

    method: str
    budget: dict[str, int | None]
    metrics: dict[str, dict[str, int | float | list[float] | None] | None]


def _read_origin(card: ModelCard, given: GivenMask) -> MaskOrigin:
    """Return the method and the results of a mask from the content of its file; by hand if it is of another model."""
    import msgspec

    if not given.notices:
        with suppress(msgspec.ValidationError):
            origin = msgspec.convert(given.content, _Origin)
            return MaskOrigin(card.id, origin.method, origin.budget, origin.metrics, model_sha256=card.origin)
    return MaskOrigin(card.id, BY_HAND, budget={"attained": given.mask.count}, model_sha256=card.origin)


def _convert_mask(
    form: MaskForm, card: ModelCard, given: GivenMask, *, output: Output, store: Store | None
) -> dict[str, Any]:
    """Write a mask in another form, with the roles of its heads if known."""
    mask = given.mask
    origin = _read_origin(card, given)
    roles = stored_roles(Resources(card, store=store or Store()))
    if roles is not None:
        origin = replace(origin, columns=roles.columns)
    written = form.write(mask, origin)
    output.check_file(form.file, written)
    output.write({form.file: written})
    return {
        "model": origin.model,
        "kept": kept_heads(mask),
        "form": form.key,
        "file": form.file,
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
) -> dict[str, Any]:
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


def site(folder: Name, *, force: bool = False) -> dict[str, Any]:
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
            live = Live.of(run, clusters, bundle.swept_table(), clusters.groups(run.mask.count)[0], measures())
            origin = Origin(bundle.made["machine"], bundle.made["date"], recipe(run.settings), bundled=True)
            runs.append((run, live, origin))
    if not runs:
        raise CahpError("no finished run ships with this copy of the package; install it from its wheel")
    comparisons, _ = bundled.read_comparisons(bundled.comparisons_folder())
    compared = {}
    for one in comparisons:
        if one.name == _COMPARED:
            results = one.comparison.results
            # The last recovery in closed form, which takes no training.
            recovery = next(name for name in reversed(results.document.recoveries) if RECOVERIES[name].swept)
            compared[f"Methods compared on {results.document.model.id}"] = [show_means(results, recovery)]
    text = site_page(runs, compared, measures=measures())
    place = Path(folder)
    file = write_report(text, place / "index.html", force=force)
    return {"file": str(file), "bytes": len(text.encode()), "models": [run.model.id for run, *_ in runs]}
