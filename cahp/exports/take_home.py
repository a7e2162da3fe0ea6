"""Take a pruned model home: recovered as asked, in one of the forms, into a folder or as one file to download."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp import models
from cahp.cards import ModelCard
from cahp.exports import checkpoints, formats
from cahp.exports.form import MaskForm, ModelForm
from cahp.exports.masks import MaskOrigin, kept_heads, read_for
from cahp.exports.run_folder import zipped
from cahp.files import scratch
from cahp.output import Mark, Output, UnwrittenError
from cahp.recoveries import NONE
from cahp.run.bench import Bench, check_classifier, open_bench
from cahp.run.document import BY_HAND, SplitRecord
from cahp.run.measurements import Measurements
from cahp.run.option import parse_duration
from cahp.run.recovered import cut_model
from cahp.run.resources import Resources
from cahp.run.settings import Settings, identify_model
from cahp.store import Store
from cahp.values import HeadMask, Input, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


def export(
    settings: Settings,
    *,
    mask: Path,
    form: str,
    out: Path | Output,
    how: str | None = None,
    time: bool = True,
    command: str = "",
    store: Store | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Write the model cut to a mask as a folder that others load, or the mask itself as another kind of file.

    A model is recovered first (``how``: ``auto`` where there are data, unless it is told; ``watch`` sees a training)
    and measured where there are data; see ``cahp.exports.checkpoints.write``.

    Raises:
        CahpError: If model, mask, data and form do not go together, or what was written answers otherwise.
        UnwrittenError: If it cannot be written; it says what was found.
    """
    output = Output.of(out)
    card = identify_model(settings)
    keep, said = read_for(card, mask)
    asked = formats.find(form)
    if isinstance(asked, MaskForm):
        return _mask_alone(asked, keep, _origin(card, keep, said), output)
    assert isinstance(asked, ModelForm)
    asked.check_installed()
    formats.check_card(asked, card)
    checkpoints.claimed(output, card)
    check_classifier(settings, card)
    builtin = models.BUILTINS.get(card.id)
    there = settings.data is not None or bool(builtin and builtin.data)
    how = how or ("auto" if there else NONE.name)
    # What a recovery works on is drawn as it needs it.
    settings = replace(settings, recover=how)
    if there:
        bench = open_bench(settings, store=store, card=card, progress=progress)
        measurements = bench.measurements
        outcome, pruned = checkpoints.recovered(bench, keep, recover=how, watch=watch)
        inputs: Sequence[Input] | None = bench.evaluation.inputs
        full = measurements.evaluate(bench.evaluation)
        data = SplitRecord.of(settings.eval_split, bench.evaluation).with_id(bench.dataset.id)
        notices = list(bench.notices)
    elif how != NONE.name:
        raise OptionError(f"--recover {how} needs texts to recover the model on; name some with --data")
    else:
        resources = Resources(card, store=store or Store(), device=settings.device, progress=progress)
        measurements = Measurements(resources)
        outcome, pruned = {}, cut_model(resources.model, keep)
        inputs, full, data, notices = None, None, None, []
    found = {
        "model": card.id,
        "data": data,
        "kept": kept_heads(keep),
        **(outcome or checkpoints.UNMEASURED),
        "parameters": {"full": measurements.model.parameters, "pruned": pruned.parameters},
        "form": asked.key,
        "bytes": None,
        "difference": None,
        "agreement": None,
        "tried": None,
        "onnx_latency_ms": None,
        "files": None,
        "loads": formats.as_asked(asked.loads, card.prompt),
        "notices": notices,
    }
    with UnwrittenError.carrying(found):
        written = checkpoints.write(
            asked,
            output,
            model=measurements.model,
            pruned=pruned,
            mask=keep,
            inputs=inputs,
            full=full,
            outcome=outcome or None,
            method=str(said.get("method", BY_HAND)),
            data=data,
            recovery=how,
            command=command,
            latency=time,
            seconds=parse_duration(settings.latency_time, "--latency-time"),
            seed=settings.seed,
            progress=progress,
        )
    return {**found, **written.beside(outcome), **written.as_json()}


@dataclass(frozen=True)
class _Told:
    """What a mask's file may tell of its origin, as it is written on; anybody may have written the file."""

    method: str
    budget: dict[str, int | None]
    metrics: dict[str, dict[str, int | float | list[float] | None] | None]


def _origin(card: ModelCard, mask: HeadMask, said: Mapping[str, Any]) -> MaskOrigin:
    """Who chose a mask and what was measured, as its file ``said``; by hand if it does not say so of this model."""
    import msgspec

    if said.get("model") == card.id:
        with suppress(msgspec.ValidationError):
            told = msgspec.convert(said, _Told)
            return MaskOrigin(card.id, told.method, told.budget, told.metrics)
    return MaskOrigin(card.id, BY_HAND, budget={"attained": mask.count})


def _mask_alone(form: MaskForm, mask: HeadMask, origin: MaskOrigin, out: Output) -> dict[str, Any]:
    content = form.write(mask, origin)
    if form.key == "mask":
        out.check_files([form.file], Mark(form.file, "cahp.mask"))
    else:
        out.check_file(form.file, content)
    out.write({form.file: content})
    return {"model": origin.model, "kept": kept_heads(mask), "form": form.key, "file": form.file}


@dataclass(frozen=True)
class Checkpoint:
    """A pruned model as a ZIP file, the metrics and differences of a run, and what was found when it was read back."""

    content: bytes
    outcome: Mapping[str, Any]
    written: checkpoints.Written


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

    ``method`` is who chose the heads, if not the bench's. See ``cahp.exports.checkpoints``: ``recovered`` for the
    recovery, ``write`` for the rest.

    Raises:
        MaskError: If a layer keeps no head.
        CahpError: If what is read back answers otherwise than what was written.
    """
    formats.check_card(form, bench.card)
    outcome, pruned = checkpoints.recovered(bench, mask, recover=recover, epochs=epochs, allowed=allowed, watch=watch)
    with scratch() as place:
        folder = place / f"{Path(bench.card.id).name}-{mask.count}-heads-{form.key}"
        written = checkpoints.write(
            form,
            folder,
            model=bench.model,
            pruned=pruned,
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
