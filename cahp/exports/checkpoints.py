"""A pruned model as a folder: weights, mask, results and model card, written only if it gives the same results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cahp.exports import formats
from cahp.exports.form import Footprint, ModelForm, Pruned
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.exports.model_card import model_card
from cahp.exports.run_folder import zipped
from cahp.files import json_text, scratch
from cahp.models.cards import LATENCY_SECONDS, ModelCard
from cahp.models.identity import locate
from cahp.outcomes import measure
from cahp.output import AnyFolder, Output
from cahp.recoveries import NONE, find_applied
from cahp.run.bench import Bench
from cahp.run.document import BY_HAND, measured_states, outcome_records, versions
from cahp.run.recoveries import Recovered, cut_model, recovery_record
from cahp.run.resources import record_split
from cahp.values import Fields, HeadMask, JsonObject, Notices, OptionError, Progress, silent
from cahp.words import encodable

if TYPE_CHECKING:
    from cahp.models.saving import ReadBack

#: ``metrics``, ``delta`` and ``outcomes`` of a model that was not evaluated.
UNMEASURED = {"metrics": None, "delta": None, "outcomes": None}
#: Number of texts on which a written model is tried.
TRIED = 64
#: The texts if there are no data.
_SENTENCES = (
    "A short text.",
    "Most heads of a transformer can be removed, one after the other, and its answers hardly change.",
    "Why would it need so many, then?",
    "Fine.",
)


@dataclass(frozen=True)
class Provenance:
    """How a pruned model was made: the ``method`` that chose its heads, its ``recovery``, and the ``command``.

    ``findings`` are lines for its model card about what features measured of it.
    """

    method: str = BY_HAND
    recovery: str = NONE.name
    command: str = ""
    findings: Notices = ()


def claimed(out: AnyFolder, card: ModelCard) -> Output:
    """Return the output folder of a model made from that of ``card``; it is new, empty, or was written by us.

    Raises:
        OptionError: If it holds anything else, or the model of ``card`` itself.
    """
    output = Output.of(out)
    own = {Path(card.folder).resolve()}
    if card.source is not None:
        own.add(Path(card.source).resolve().parent)
    if output.folder.resolve() in own:
        raise OptionError(
            f"{output.folder} holds {card.id} itself, which would be overwritten; name another folder with --out"
        )
    output.check_folder()
    return output


def recovered(
    bench: Bench,
    mask: HeadMask,
    *,
    recover: str,
    schedule: Fields | None = None,
    allowed: float | None = None,
) -> tuple[JsonObject, Recovered | None]:
    """Recover the model under ``mask``; return its outcomes with the record of the recovery, and the recovery.

    ``schedule`` changes that of a training, and ``allowed`` are the seconds of a timed recovery (None: those of the
    settings).
    """
    settings = bench.settings
    seconds = allowed or settings.recover_seconds
    recovery = bench.recoveries.recover(mask, recover, labels=settings.labels, seconds=seconds, schedule=schedule)
    states = bench.measurements.outcomes(bench.evaluation, mask, recovered=recovery, seed=settings.seed)
    record = recovery_record(bench.measurements, bench.evaluation, mask, recovery, seed=settings.seed)
    return {**outcome_records(states), **record}, recovery


def checkpoint(
    bench: Bench,
    mask: HeadMask,
    *,
    form: ModelForm,
    provenance: Provenance,
    recover: str,
    allowed: float | None = None,
    progress: Progress = silent,
) -> tuple[bytes, JsonObject]:
    """Cut the model to ``mask``, recover it, and write it; return the folder as a ZIP file, and its results.

    ``provenance`` tells how the heads were chosen; its recovery is ``recover``. See
    ``recovered`` for the recovery, and ``write`` for the rest.

    Raises:
        MaskError: If a layer keeps no head, and the model cannot do without its attention.
        CahpError: If the written model gives other results.
    """
    formats.check_export(form, locate(bench.card), mask, recover)
    outcome, recovery = recovered(bench, mask, recover=recover, allowed=allowed)
    pruned = Pruned(bench.model, cut_model(bench.model, mask, recovery), mask, bench.evaluation.inputs)
    made = replace(provenance, recovery=recover)
    with scratch() as place:
        folder = place / f"{Path(bench.card.id).name}-{mask.count}-heads-{form.key}"
        results = write(form, folder, pruned, bench=bench, outcome=outcome, provenance=made, progress=progress)
        return zipped(folder), results


def write(
    form: ModelForm,
    out: Path | Output,
    pruned: Pruned,
    *,
    bench: Bench | None = None,
    outcome: Fields = UNMEASURED,
    provenance: Provenance = Provenance(),
    seconds: float | None = LATENCY_SECONDS,
    progress: Progress = silent,
) -> JsonObject:
    """Write a model, cut to a mask and recovered or not, as a folder for other tools, whole or not at all.

    Beside weights and tokenizer it holds ``head_mask.json``, ``metrics.json``, and a ``README.md`` with instructions,
    results and origin. It is read back in a new process without this package, and its results for the inputs of
    ``pruned`` (none: a few sentences) must be those in memory: the same logits, or enough equal predictions if the form
    rounds. A form with its own runtime is timed for at most ``seconds`` (None: not timed). ``outcome`` has the
    ``metrics`` and ``delta`` of a run, as they were measured on the texts of a ``bench`` (None: not measured).

    Returns:
        The ``outcome``, with those of a rounded model added, and more fields of ``metrics.json``: the ``form``, the
        ``bytes`` of the weights, the ``difference`` of logits and the ``agreement`` of predictions on the ``tried``
        texts after reading back, the number of tokens ``written`` with a cache (None: not tried), and sizes and
        latencies of its ``files`` beside the full model's, if it was timed.

    Raises:
        CahpError: If the model cannot be written in this form, gives other results, or cannot be read; nothing is
            written.
    """
    whole = pruned.whole
    card = whole.card
    mask = pruned.mask
    formats.check_export(form, card, mask, provenance.recovery)
    # Without data, the texts may still have to be pairs.
    texts = list(pruned.inputs) or whole.examples(_SENTENCES)
    pruned = replace(pruned, inputs=texts[:TRIED])
    results = dict(outcome)
    with scratch() as beside, Output.of(out).whole() as part:
        if form.rounded:
            exact = beside / form.exact
            # All of it is a part of writing the form.
            _fill(formats.model_form(form.exact), exact, pruned, progress=lambda *_: progress("write", 0, 1))
            pruned = replace(pruned, inputs=texts, exact=exact)
        facts = {
            "cahp.version": version("cahp-explorer"),
            "cahp.model": card.id,
            "cahp.model.sha256": card.identity,
            "cahp.mask.sha256": mask.sha256,
            "cahp.method": provenance.method,
            "cahp.recovery": find_applied(provenance.recovery, outcome.get("refit"), outcome.get("distill")),
            "cahp.command": provenance.command,
        }
        written = {name: encodable(fact) for name, fact in facts.items() if fact}
        read, note = _fill(form, part, pruned, written, progress)
        if form.rounded and bench is not None:
            full = bench.measurements.evaluate(bench.evaluation)
            states = measured_states(results)
            states[form.rounded] = measure(replace(full, scores=read.scores), full=full, seed=bench.settings.seed)
            results |= outcome_records(states)
        files: list[Footprint] | None = None
        if form.times is not None and seconds is not None:
            progress("latency", 0, 1)
            files = _time_files(form, part, pruned, provenance.recovery, seconds)
        results |= {
            "form": form.key,
            "bytes": _size_of_weights(form, part),
            "difference": read.difference,
            "agreement": read.agreement,
            "tried": read.tried,
            "written": read.written,
            "files": files,
            "note": note,
        }
        model: JsonObject = {
            "id": card.id,
            "revision": card.revision,
            "family": card.family,
            "sha256": card.identity,
        }
        example = None
        if card.prompt is not None and whole.prompt is not None:
            model |= card.prompt.settings
            example = whole.prompt.preview()
        figures = {
            "schema": "cahp.metrics/1",
            **describe_data(bench),
            "model": model,
            "recovery": provenance.recovery,
            "parameters": pruned.parameters,
            "versions": versions(),
            "command": provenance.command,
            **results,
        }
        budget = {"attained": mask.count}
        origin = MaskOrigin(card.id, provenance.method, budget, results["metrics"] or {}, model_sha256=card.origin)
        readme = model_card(form, card, mask, figures, example=example, findings=provenance.findings)
        (part / formats.MASK_FILE).write_bytes(mask_json(mask, origin))
        (part / formats.FIGURES_FILE).write_bytes(json_text(figures).encode())
        (part / formats.CARD_FILE).write_bytes(encodable(readme).encode())
    return results


def describe_data(bench: Bench | None) -> JsonObject:
    """Return what names the texts of a bench in documents: their ``data`` and ``protocol`` (None: there are none)."""
    if bench is None:
        return {"data": None, "protocol": None}
    record = record_split(bench.resources, bench.settings.eval_split, bench.evaluation)
    return {"data": {"id": bench.dataset.id, **vars(record)}, "protocol": bench.protocol}


def _fill(
    form: ModelForm,
    folder: Path,
    pruned: Pruned,
    facts: Mapping[str, str] | None = None,
    progress: Progress = silent,
) -> tuple[ReadBack, str | None]:
    """Write a model with ``facts`` about its weights into a folder, read it back, and check its results.

    Returns what was read, and what the form says of what it wrote.

    Raises:
        CahpError: If the results differ from those in memory.
    """
    from cahp.models.saving import read_back, save_tokenizer, stamp
    from cahp.models.selftest import measure_rounding

    folder.mkdir(exist_ok=True)
    model = pruned.cut
    save_tokenizer(model.tokenizer, folder)
    progress("write", 0, 1)
    note = form.write(folder, pruned)
    if facts is not None:
        stamp(folder, facts)
    full = None
    if form.rounded:
        # What a rounded language model predicts is measured at every token.
        full = pruned.whole
    progress("reload", 0, 1)
    reads = formats.name_class(form.reads, model.card)
    read = read_back(folder, reads, model, pruned.inputs, full=full, progress=progress)
    rounding = 0.0
    if not form.rounded and read.difference > form.tolerance:
        rounding = measure_rounding(model, model.batches(model.tokenize(pruned.inputs), size=512))
    form.check(read, rounding=rounding)
    return read, note


def _size_of_weights(form: ModelForm, folder: Path) -> int:
    # Large models are written in parts, or their weights beside their graph.
    weights = Path(form.file)
    parts = (f"{weights.stem}*{weights.suffix}", f"{form.file}.data")
    return sum(path.stat().st_size for part in parts for path in folder.glob(part))


def _time_files(form: ModelForm, folder: Path, pruned: Pruned, recovery: str, seconds: float) -> list[Footprint]:
    """Time the model in ``folder`` beside the full one and, if it was rounded, beside the one before rounding."""
    from cahp.models.surgery import cut

    assert form.times is not None
    model = pruned.whole
    state = "recovered"
    if recovery == NONE.name:
        state = "pruned"
    with scratch() as full:
        folders = {"full": full, state: folder}
        exact = form
        if pruned.exact is not None:
            exact = formats.model_form(form.exact)
            folders = {"full": full, state: pruned.exact, form.rounded: folder}
        everything = model.card.full_mask
        _fill(exact, full, Pruned(model, cut(model, everything), everything, model.examples(_SENTENCES)))
        times = form.times(model, [place / form.file for place in folders.values()], seconds)
        sizes = [_size_of_weights(form, place) for place in folders.values()]
    files = [Footprint("full", sizes[0], times[0].full, None)]
    for name, size, timed in zip([*folders][1:], sizes[1:], times, strict=True):
        files.append(Footprint(name, size, timed.pruned, timed.ratio))
    return files
