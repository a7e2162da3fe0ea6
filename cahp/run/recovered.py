"""Recovered models as values: the weights that a recovery changed, its report, and the outcomes after each step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cahp.outcomes import Outcomes, accuracy_change, measure
from cahp.recoveries import NONE, DistillReport, RefitReport, name_of_result
from cahp.store import Entry
from cahp.tasks.texts import Texts
from cahp.values import Estimate, HeadMask, digest

if TYPE_CHECKING:
    from cahp.models.cards import Site
    from cahp.models.head_model import HeadModel
    from cahp.run.measurements import Measurements

#: Names of the projections of a refit, beside the weights of the distillation that began with it.
_START = "refit:"


@dataclass(frozen=True, eq=False)
class Recovered:
    """A model that was recovered after pruning: the weights that changed, by name."""

    weights: Mapping[str, NDArray[Any]]

    @cached_property
    def sha256(self) -> str:
        """Digest of the weights."""
        return digest(*(part for name, array in self.weights.items() for part in (name, array.tobytes())))


@dataclass(frozen=True, eq=False)
class Refitted(Recovered):
    """A refitted or mean-ablated model: its new output projections, such as ``output-3-weight`` of layer 3."""

    report: RefitReport
    #: Seconds that it took (None: unknown).
    seconds: float | None = None

    @classmethod
    def of(cls, model: HeadModel, report: RefitReport, seconds: float | None = None) -> Refitted:
        """Take the projections of a refitted model that its recovery changes."""
        sites: Collection[Site] = model.family.refits
        if not report.row.checked:
            # A quick refit solves for attention outputs alone.
            sites = {"output"}
        tensors = {
            f"{site}-{layer}-{part}": getattr(model.projection(layer, site), part)
            for layer in range(model.layers)
            for site in sites
            for part in ("weight", "bias")
        }
        weights = {name: tensor.cpu().numpy() for name, tensor in tensors.items() if tensor is not None}
        return cls(weights, report, seconds)

    @classmethod
    def from_stored(cls, weights: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Refitted:
        """Build it from ``weights`` and ``meta`` of a stored one."""
        return cls(weights, RefitReport(**meta["report"]), meta["seconds"])

    @property
    def meta(self) -> dict[str, Any]:
        """Everything but the projections, as JSON."""
        return {"report": asdict(self.report), "seconds": self.seconds}


@dataclass(frozen=True, eq=False)
class FineTuned(Recovered):
    """A fine-tuned model with all its weights, and the epochs of its training as JSON.

    An epoch has the ``learning_rate`` if held-out texts chose it.
    """

    epochs: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Distilled(Recovered):
    """A distilled model with all its weights, or its starting point where that agrees better with the full model.

    ``start`` is the refit that it began with (None: there was none). ``seconds`` are those of the training with the
    teacher's answers (None: it was interrupted in between).
    """

    report: DistillReport
    start: Refitted | None = None
    seconds: float | None = None

    @classmethod
    def from_entry(cls, entry: Entry) -> Distilled:
        """Build it from an entry of the store."""
        import msgspec

        weights = dict(entry.arrays)
        start = entry.meta["start"]
        refit = {name.removeprefix(_START): weights.pop(name) for name in entry.arrays if name.startswith(_START)}
        report = msgspec.convert(entry.meta["distill"], DistillReport)
        return cls(weights, report, start and Refitted.from_stored(refit, start), entry.meta["seconds"])

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All weights by name, and the projections of the refit that it began with."""
        arrays = dict(self.weights)
        if self.start is not None:
            arrays |= {f"{_START}{name}": array for name, array in self.start.weights.items()}
        return arrays

    @property
    def meta(self) -> dict[str, Any]:
        """Everything but the weights, as JSON."""
        return {"distill": asdict(self.report), "start": self.start and self.start.meta, "seconds": self.seconds}


def cut_model(model: HeadModel, mask: HeadMask, recovered: Recovered | None = None) -> HeadModel:
    """Return the model without the heads that ``mask`` drops, with the recovered weights."""
    import torch

    from cahp.models.surgery import cut, with_weights

    if recovered is None:
        return cut(model, mask)
    if not isinstance(recovered, Refitted):
        return with_weights(cut(model, mask), recovered.weights)
    if not recovered.report.accepted:
        return cut(model, mask)
    tensors = {name: torch.tensor(array, device=model.device) for name, array in recovered.weights.items()}
    projections = {
        (layer, site): (tensors[f"{site}-{layer}-weight"], tensors.get(f"{site}-{layer}-bias"))
        for layer in range(model.layers)
        for site in model.family.refits
        if f"{site}-{layer}-weight" in tensors
    }
    return cut(model, mask, projections=projections)


def weights_of(model: HeadModel) -> dict[str, NDArray[Any]]:
    """Return all weights of a model by name."""
    return {name: weight.detach().cpu().numpy() for name, weight in model.network.named_parameters()}


def refit_report(recovered: Recovered | None) -> RefitReport | None:
    """Return the report of the refit (or mean ablation), alone or at the start of a distillation."""
    if isinstance(recovered, Distilled):
        recovered = recovered.start
    if isinstance(recovered, Refitted):
        return recovered.report
    return None


def distill_report(recovered: Recovered | None) -> DistillReport | None:
    """Return the report of the distillation."""
    if isinstance(recovered, Distilled):
        return recovered.report
    return None


# Steps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecoveryStep:
    """The model after a ``step``: ``pruned`` or the name of a recovery.

    ``accepted`` tells whether held-out texts accepted the step (None: nothing to accept); a rejected step changed
    nothing. It worked on ``examples`` texts for ``seconds`` (None: not measured in one go). ``outcomes`` are those on
    the evaluation texts, ``gained`` the change in accuracy against the step before.
    """

    step: str
    accepted: bool | None
    examples: int | None
    seconds: float | None
    outcomes: Outcomes
    gained: Estimate | None

    @property
    def result(self) -> str:
        """The model after it in words, such as "refitted"."""
        if self.step == "pruned":
            return NONE.result
        return name_of_result(self.step)


def measure_steps(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int = 42
) -> tuple[RecoveryStep, ...]:
    """Evaluate each step of a recovery that has several on ``texts``; other recoveries have no steps."""
    if not isinstance(recovered, Distilled):
        return ()
    full = measurements.evaluate(texts)
    current = measurements.evaluate(texts, mask=mask)
    steps = [RecoveryStep("pruned", None, None, None, measure(current, full=full, seed=seed), None)]
    for name, made in (("refit", recovered.start), ("distill", recovered)):
        if made is None:
            continue
        report = made.report
        before = current
        if report.accepted:
            current = measurements.evaluate(texts, mask=mask, recovered=made)
        outcomes = measure(current, full=full, seed=seed)
        gained = None
        if texts.labelled:
            gained = accuracy_change(current, before, seed)
        steps.append(RecoveryStep(name, report.accepted, report.examples, made.seconds, outcomes, gained))
    return tuple(steps)


def recovery_record(
    measurements: Measurements, texts: Texts, mask: HeadMask, recovered: Recovered | None, *, seed: int = 42
) -> dict[str, Any]:
    """Return what a recovery reports: ``refit``, ``distill`` with its ``steps``, ``epochs``; only what applies."""
    reports: dict[str, Any] = {
        "refit": refit_report(recovered),
        "distill": distill_report(recovered),
        "steps": measure_steps(measurements, texts, mask, recovered, seed=seed) or None,
    }
    if isinstance(recovered, FineTuned):
        reports["epochs"] = list(recovered.epochs)
    return {name: report for name, report in reports.items() if report is not None}
