"""A pruned model as a folder to take home: weights, mask, figures and card, written only if it answers as it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.export import formats
from cahp.export.formats import ModelForm, Pruned
from cahp.export.masks import MaskOrigin, mask_json
from cahp.export.model_card import model_card
from cahp.files import json_text, scratch
from cahp.output import Output
from cahp.run.bench import Bench
from cahp.run.document import versions
from cahp.run.ladder import steps
from cahp.run.prune import outcomes
from cahp.run.recovered import Distilled, FineTuned, Recovered, refit_report
from cahp.run.settings import RECOVER_TIME, Recovery, seconds
from cahp.values import LATENCY_SECONDS, CahpError, HeadMask, Input, ModelCard, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Watch
    from cahp.stages.latency import Times

STAGE = "write"
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

    ``latency`` is that of its file beside the full model's where the form has a runtime of its own (None for other
    forms, or if not asked for).
    """

    form: ModelForm
    bytes: int
    difference: float
    latency: Times | None = None

    def as_json(self) -> dict[str, Any]:
        """What JSON can say of it."""
        timed = None
        if self.latency is not None:
            found = self.latency
            timed = {
                "full": asdict(found.full),
                "pruned": asdict(found.pruned),
                "ratio": asdict(found.ratio),
            }
        return {"form": self.form.key, "bytes": self.bytes, "difference": self.difference, "onnx_latency_ms": timed}


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
    recover: Recovery,
    epochs: int = 3,
    allowed: float | None = None,
    watch: Watch | None = None,
) -> tuple[dict[str, Any], HeadModel]:
    """The model cut to ``mask`` and recovered as asked, and the ``metrics`` and ``delta`` of a run with it.

    With a refit also why it was taken or not (``refit``), with a distillation what came of it (``distill``), with
    fine-tuning its ``epochs``; ``watch`` sees the loss of a training. With ``auto``, so many seconds are ``allowed``
    (None: as the settings say).
    """
    settings, measurements = bench.settings, bench.measurements
    made: Recovered | None
    if recover == "finetune":
        from cahp.models.training import Schedule

        made = measurements.finetune(mask, schedule=Schedule(epochs=epochs), watch=watch)
    elif recover in ("distill", "auto"):
        allowed = allowed or seconds(settings.recover_time or RECOVER_TIME)
        made = measurements.distill(
            mask, labels=settings.labels, seconds=allowed if recover == "auto" else None, watch=watch
        )
    else:
        made = measurements.recover(mask, recover)
    outcome = dict(vars(outcomes(measurements, bench.evaluation, mask, recovered=made, seed=settings.seed)))
    if (refit := refit_report(made)) is not None:
        outcome["refit"] = refit
    if isinstance(made, Distilled):
        outcome["distill"] = made.report
        outcome["steps"] = steps(measurements, bench.evaluation, mask, made, seed=settings.seed)
    if isinstance(made, FineTuned):
        outcome["epochs"] = list(made.epochs)
    return outcome, measurements.pruned(mask, made)


def write(
    form: ModelForm,
    out: Path | Output,
    *,
    model: HeadModel,
    pruned: HeadModel,
    mask: HeadMask,
    inputs: Sequence[Input] | None = None,
    outcome: Mapping[str, Any] | None = None,
    method: str = "by hand",
    data: Mapping[str, Any] | None = None,
    recovery: str = "none",
    command: str = "",
    latency: bool = True,
    seconds: float = LATENCY_SECONDS,
    progress: Progress = silent,
) -> Written:
    """Write ``pruned`` (``model`` cut to ``mask``, recovered or not) as a folder that others load, whole or not at all.

    Besides weights and tokenizer it holds ``head_mask.json``, ``metrics.json`` and a ``README.md`` that says how to
    load it, what was measured, and from which model and data it was made. It is read back in a fresh process that does
    not know this package and must answer ``inputs`` with the same logits. ``outcome`` has the ``metrics`` and
    ``delta`` of a run, ``data`` what it was measured on; None where nothing was measured. Without ``inputs`` it is
    tried on a few sentences. With ``latency``, a form with a runtime of its own is timed for at most ``seconds``.

    Raises:
        CahpError: If it answers otherwise by more than the form's tolerance, or cannot be read; nothing is written.
    """
    card = model.card
    asked = {} if card.prompt is None else {"prompt": card.prompt.template, "answers": card.prompt.answers}
    measured = dict(outcome or {"metrics": None, "delta": None})
    source = {
        "model": {"id": card.id, "revision": card.revision, "family": card.family, "sha256": card.sha256, **asked},
        "data": data,
        "recovery": recovery,
        "parameters": {"full": model.parameters, "pruned": pruned.parameters},
        "versions": versions(),
        "command": command,
    }
    origin = MaskOrigin(card.id, method, budget={"attained": mask.count}, metrics=measured["metrics"] or {})
    said = {
        formats.MASK_FILE: mask_json(mask, origin),
        formats.FIGURES_FILE: json_text({"schema": "cahp.metrics/1", **source, **measured}).encode(),
        formats.CARD_FILE: model_card(
            form, card, mask, measured, source, reading=None if model.prompt is None else model.prompt.reading_of()
        ).encode(),
    }
    # Where no data are at hand a prompt may still be for pairs.
    tried = model.examples(_SENTENCES) if inputs is None else list(inputs)
    timed = form.runtime is not None and latency
    steps = 2 if timed else 1
    progress(STAGE, 0, steps)
    place = Output.of(out)
    difference = _place(form, place, Pruned(model, pruned, mask, tried[:TRIED]), said)
    folder = place.folder
    progress(STAGE, 1, steps)
    found = _times(form, model, folder, seconds) if timed else None
    progress(STAGE, steps, steps)
    weights = Path(form.file)
    # Large models are written in parts.
    size = sum(path.stat().st_size for path in folder.glob(f"{weights.stem}*{weights.suffix}"))
    return Written(form, size, difference, found)


def _place(form: ModelForm, out: Output, pruned: Pruned, said: Mapping[str, bytes]) -> float:
    """Write a folder, with the files in ``said``, unless it answers otherwise; by how much it does."""
    from cahp.models.saving import read_back, save_tokenizer

    with out.whole() as part:
        for name, content in said.items():
            (part / name).write_bytes(content)
        save_tokenizer(pruned.cut.tokenizer, part)
        form.write(part, pruned)
        reads = formats.as_asked(form.reads, pruned.cut.card.prompt)
        difference = read_back(part, reads, pruned.cut, pruned.inputs)
        # Not `difference > tolerance`: what is not a number must fail too.
        if not difference <= form.tolerance:
            raise CahpError(
                f"the {form.key} model, read again, answers otherwise than the one in memory (by {difference:.1e}), so "
                "it was not written; export the mask instead, and tell us which model this is"
            )
        for path in part.iterdir():
            # Weights are written for their owner alone; the folder is as open as its configuration.
            path.chmod((part / "config.json").stat().st_mode)
        return difference


def _times(form: ModelForm, model: HeadModel, folder: Path, seconds: float) -> Times:
    """Time the pruned model in ``folder`` beside the full ``model``, written in the same form, in turn."""
    from cahp.models.surgery import cut

    assert form.runtime is not None
    everything = HeadMask.full(model.layers, model.heads)
    with scratch() as place:
        full = place / "full"
        _place(form, Output(full), Pruned(model, cut(model, everything), everything, model.examples(_SENTENCES)), {})
        return form.runtime.times(model, full / form.file, folder / form.file, seconds)
