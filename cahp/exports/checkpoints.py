"""A pruned model as a folder to take home: weights, mask, figures and card, written only if it answers as it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cahp.cards import ModelCard
from cahp.costs import LATENCY_SECONDS
from cahp.exports import formats
from cahp.exports.footprint import Footprint, footprints_of
from cahp.exports.form import ModelForm, Pruned
from cahp.exports.masks import MaskOrigin, mask_json
from cahp.exports.model_card import model_card
from cahp.exports.run_folder import zipped
from cahp.files import json_text, scratch
from cahp.outcomes import Outcomes, measure
from cahp.output import Output
from cahp.recoveries import get_recovery
from cahp.run.bench import Bench
from cahp.run.document import SplitRecord, outcome_records, ratio_record, versions
from cahp.run.option import parse_duration
from cahp.run.prune import measure_outcomes
from cahp.run.recovered import Recovered, cut_model
from cahp.run.recovery_steps import recovery_record
from cahp.run.settings import RECOVER_TIME
from cahp.values import Evaluation, HeadMask, Input, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.saving import ReadBack
    from cahp.models.training import Watch

STAGE = "write"
#: ``metrics``, ``delta`` and ``outcomes`` where nothing was measured.
UNMEASURED: Mapping[str, None] = {"metrics": None, "delta": None, "outcomes": None}
#: Texts that a written model is tried on.
TRIED = 64
#: What it is tried on where no data are at hand.
_SENTENCES = (
    "A short text.",
    "Most heads of a transformer can be removed, one after the other, and its answers hardly change.",
    "Why would it need so many, then?",
    "Fine.",
)


@dataclass(frozen=True)
class Written:
    """A model on disk: its form, the bytes of its weights, how far its logits stray when read back.

    ``agreement`` is the share of ``tried`` texts with the same answer as in memory. Where the form has a runtime of its
    own, ``files`` are its file beside those of the full model (and of the one that it was rounded from); empty for
    other forms, or if not asked for. ``rounded`` are the outcomes of a rounded model, where there were texts.
    """

    form: ModelForm
    bytes: int
    difference: float
    agreement: float
    tried: int
    files: tuple[Footprint, ...] = ()
    rounded: Outcomes | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the figures for ``metrics.json``."""
        timed = None
        if self.files:
            full, pruned = self.files[:2]
            assert pruned.ratio is not None
            timed = {
                "full": asdict(full.latency_ms),
                "pruned": asdict(pruned.latency_ms),
                "ratio": ratio_record(pruned.ratio),
            }
        return {
            "form": self.form.key,
            "bytes": self.bytes,
            "difference": self.difference,
            "agreement": self.agreement,
            "tried": self.tried,
            "onnx_latency_ms": timed,
            "files": self.files or None,
        }

    def beside(self, outcome: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``outcome`` with the outcomes of the rounded model beside those of the others."""
        if self.rounded is None or self.form.rounded is None:
            return dict(outcome)
        states = {state: outcomes for state, outcomes in outcome["outcomes"].items() if outcomes is not None}
        return {**outcome, **outcome_records({**states, self.form.rounded.state: self.rounded})}


def claimed(out: Path | Output, card: ModelCard) -> Output:
    """Where a model that is made of that of ``card`` goes: a new or empty folder, or one that was written here before.

    Raises:
        OptionError: If it holds anything else, or the model of ``card`` itself.
    """
    asked = Output.of(out)
    if asked.folder.resolve() == Path(card.folder).resolve():
        raise OptionError(
            f"{asked.folder} holds {card.id} itself, which would be overwritten; name another folder with --out"
        )
    asked.check_folder()
    return asked


def recovered(
    bench: Bench,
    mask: HeadMask,
    *,
    recover: str,
    schedule: Mapping[str, Any] | None = None,
    allowed: float | None = None,
    watch: Watch | None = None,
) -> tuple[dict[str, Any], Recovered | None]:
    """Recover the model under ``mask``; return its outcomes with the report of the recovery, and the recovery.

    ``schedule`` holds changes to that of a training, ``allowed`` the seconds of a timed recovery (None: as the settings
    say); ``watch`` gets the loss of a training.
    """
    settings, measurements = bench.settings, bench.measurements
    made = bench.recoveries.recover(
        mask,
        recover,
        labels=settings.labels,
        seconds=allowed or parse_duration(settings.recover_time or RECOVER_TIME),
        schedule=schedule,
        watch=watch,
    )
    states = measure_outcomes(measurements, bench.evaluation, mask, recovered=made, seed=settings.seed)
    record = recovery_record(measurements, bench.evaluation, mask, made, seed=settings.seed)
    return {**outcome_records(states), **record}, made


def write(
    form: ModelForm,
    out: Path | Output,
    *,
    model: HeadModel,
    pruned: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Input] | None = None,
    full: Evaluation | None = None,
    outcome: Mapping[str, Any] | None = None,
    method: str = "by hand",
    data: Mapping[str, Any] | None = None,
    recovery: str = "none",
    command: str = "",
    latency: bool = True,
    seconds: float = LATENCY_SECONDS,
    seed: int = 42,
    progress: Progress = silent,
) -> Written:
    """Write ``pruned`` (``model`` cut to ``mask``, recovered or not) as a folder that others load, whole or not at all.

    Besides weights and tokenizer it holds ``head_mask.json``, ``metrics.json`` and a ``README.md`` that says how to
    load it, what was measured, and from which model and data it was made. It is read back in a fresh process that does
    not know this package and must answer ``inputs`` as in memory: with the same logits, or, where the form rounds, with
    the same answers to so many of them. ``outcome`` has the ``metrics`` and ``delta`` of a run, ``data`` what it was
    measured on, ``full`` what the full model answers to ``inputs``; None where nothing was measured. Without ``inputs``
    it is tried on a few sentences. With ``latency``, a form with a runtime of its own is timed for at most ``seconds``.

    Raises:
        CahpError: If the model cannot be written so, answers otherwise than the form allows, or cannot be read; nothing
            is written.
    """
    card = model.card
    formats.check_card(form, card)
    timed = form.runtime is not None and latency
    total = 2 if timed else 1
    progress(STAGE, 0, total)
    place = Output.of(out)
    # Where no data are at hand a prompt may still be for pairs.
    given = model.examples(_SENTENCES) if inputs is None else list(inputs)
    tried = given if form.rounded else given[:TRIED]
    with scratch() as beside, place.whole() as part:
        whole = Pruned(model, pruned, mask, tried)
        if form.rounded is not None:
            exact = replace(whole, inputs=tried[:TRIED])
            whole = replace(whole, exact=beside / form.rounded.exact)
            _fill(formats.model_form(form.rounded.exact), beside / form.rounded.exact, exact)
        read = _fill(form, part, whole)
        progress(STAGE, 1, total)
        written = Written(
            form,
            _bytes(form, part),
            read.difference,
            read.agreement,
            len(tried),
            _files(form, part, whole, recovery, seconds) if timed else (),
            None
            if form.rounded is None or full is None
            else measure(Evaluation(read.found.astype(np.float32), full.labels, full.classes), full=full, seed=seed),
        )
        measured = written.beside(outcome or UNMEASURED)
        asked = {} if card.prompt is None else {"prompt": card.prompt.template, "answers": card.prompt.answers}
        source = {
            "model": {"id": card.id, "revision": card.revision, "family": card.family, "sha256": card.sha256, **asked},
            "data": data,
            "recovery": recovery,
            "parameters": {"full": model.parameters, "pruned": pruned.parameters},
            "versions": versions(),
            "command": command,
        }
        origin = MaskOrigin(card.id, method, budget={"attained": mask.count}, metrics=measured["metrics"] or {})
        reading = None if model.prompt is None else model.prompt.preview()
        said = {
            formats.MASK_FILE: mask_json(mask, origin),
            formats.FIGURES_FILE: json_text(
                {"schema": "cahp.metrics/1", **source, **measured, **written.as_json()}
            ).encode(),
            formats.CARD_FILE: model_card(
                form, card, mask, measured, source, reading=reading, files=written.files
            ).encode(),
        }
        for name, content in said.items():
            (part / name).write_bytes(content)
        for path in part.iterdir():
            # Weights are written for their owner alone; the folder is as open as its configuration.
            path.chmod((part / "config.json").stat().st_mode)
    progress(STAGE, total, total)
    return written


@dataclass(frozen=True)
class Checkpoint:
    """A pruned model as a ZIP file, the metrics and differences of a run, and what was found when it was read back."""

    content: bytes
    outcome: Mapping[str, Any]
    written: Written


def checkpoint(
    bench: Bench,
    mask: HeadMask,
    *,
    form: ModelForm,
    method: str | None = None,
    recover: str = "refit",
    epochs: int = 3,
    allowed: float | None = None,
    watch: Watch | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Checkpoint:
    """Cut the model to ``mask``, recover it, and write it in a form that others load.

    ``method`` is who chose the heads, if not the bench's. See ``recovered`` for the recovery, and ``write`` for
    the rest.

    Raises:
        MaskError: If a layer keeps no head.
        CahpError: If what is read back answers otherwise than what was written.
    """
    formats.check_card(form, bench.card)
    schedule = {"epochs": epochs} if get_recovery(recover).needs_labels else None
    outcome, made = recovered(bench, mask, recover=recover, schedule=schedule, allowed=allowed, watch=watch)
    with scratch() as place:
        folder = place / f"{Path(bench.card.id).name}-{mask.count}-heads-{form.key}"
        written = write(
            form,
            folder,
            model=bench.model,
            pruned=cut_model(bench.model, mask, made),
            mask=mask,
            inputs=bench.evaluation.inputs,
            full=bench.measurements.evaluate(bench.evaluation),
            outcome=outcome,
            method=method or bench.settings.method,
            data=SplitRecord.of(bench.settings.eval_split, bench.evaluation).with_id(bench.dataset.id),
            recovery=recover,
            command=command,
            seed=bench.settings.seed,
            progress=progress,
        )
        return Checkpoint(zipped(folder), written.beside(outcome), written)


def _fill(form: ModelForm, folder: Path, pruned: Pruned) -> ReadBack:
    """Write a model into a folder, and what it answers when it is read back.

    Raises:
        CahpError: If it answers otherwise than in memory.
    """
    from cahp.models.saving import read_back, save_tokenizer

    folder.mkdir(exist_ok=True)
    save_tokenizer(pruned.cut.tokenizer, folder)
    form.write(folder, pruned)
    read = read_back(folder, formats.as_asked(form.reads, pruned.cut.card.prompt), pruned.cut, pruned.inputs)
    form.check(read)
    return read


def _bytes(form: ModelForm, folder: Path) -> int:
    # Large models are written in parts, or their weights beside their graph.
    weights = Path(form.file)
    parts = (f"{weights.stem}*{weights.suffix}", f"{form.file}.data")
    return sum(path.stat().st_size for part in parts for path in folder.glob(part))


def _files(form: ModelForm, folder: Path, pruned: Pruned, recovery: str, seconds: float) -> tuple[Footprint, ...]:
    """The pruned model in ``folder`` beside the full one; where it was rounded, beside both as they were before."""
    from cahp.models.surgery import cut

    assert form.runtime is not None
    model, everything = pruned.whole, HeadMask.full(pruned.whole.layers, pruned.whole.heads)
    state = "pruned" if recovery == "none" else "recovered"
    with scratch() as full:
        if form.rounded is None:
            exact, folders = form, {"full": full, state: folder}
        else:
            assert pruned.exact is not None
            exact = formats.model_form(form.rounded.exact)
            folders = {"full": full, state: pruned.exact, form.rounded.state: folder}
        _fill(exact, full, Pruned(model, cut(model, everything), everything, model.examples(_SENTENCES)))
        return footprints_of(
            list(folders),
            [_bytes(form, where) for where in folders.values()],
            form.runtime.times(model, [where / form.file for where in folders.values()], seconds),
        )
