"""Recovered models as values: what was changed in a pruned model, and what a run says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.recoveries import DistillReport, RefitReport
from cahp.values import digest

if TYPE_CHECKING:
    from cahp.models.families import Site
    from cahp.models.head_model import HeadModel

#: The projections that a refit may solve anew.
_SITES: tuple[Site, ...] = ("output", "feed_out")


@dataclass(frozen=True, eq=False)
class Refitted:
    """New output projections of a pruned model (weight and bias by layer and site), and why they were taken or not."""

    projections: Mapping[tuple[int, Site], tuple[NDArray[np.float32], NDArray[np.float32] | None]]
    accepted: bool
    reason: str
    examples: int
    #: Seconds that it took (None: an earlier version did not say).
    seconds: float | None = None

    @classmethod
    def of(cls, model: HeadModel, report: RefitReport) -> Refitted:
        """Those of a model that was refitted."""
        linears = {
            (layer, site): model.projection(layer, site)
            for layer in range(model.layers)
            for site in model.family.refits
        }
        return cls(
            {
                place: (linear.weight.cpu().numpy(), None if linear.bias is None else linear.bias.cpu().numpy())
                for place, linear in linears.items()
            },
            **asdict(report),
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Refitted:
        """What ``arrays`` and ``meta`` were put down as."""
        places = [
            (int(layer), site)
            for site, layer, part in (name.rsplit("-", 2) for name in arrays)
            if part == "weight" and site in _SITES
        ]
        return cls(
            {
                (layer, site): (arrays[f"{site}-{layer}-weight"], arrays.get(f"{site}-{layer}-bias"))
                for layer, site in sorted(places, key=lambda place: (place[0], _SITES.index(place[1])))
            },
            **meta,
        )

    @property
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The projections by name."""
        return {
            f"{site}-{layer}-{part}": values
            for (layer, site), pair in self.projections.items()
            for part, values in zip(("weight", "bias"), pair, strict=True)
            if values is not None
        }

    @property
    def meta(self) -> dict[str, Any]:
        """The rest, as JSON."""
        return {**asdict(self.report), "seconds": self.seconds}

    @property
    def report(self) -> RefitReport:
        """What a run file says of it."""
        return RefitReport(self.accepted, self.reason, self.examples)

    @property
    def sha256(self) -> str:
        """Digest of the projections."""
        return digest(*(b"" if part is None else part.tobytes() for pair in self.projections.values() for part in pair))


@dataclass(frozen=True, eq=False)
class Trained:
    """All weights of a pruned model by name, after a training."""

    weights: Mapping[str, NDArray[Any]]

    @cached_property
    def sha256(self) -> str:
        """Digest of the weights."""
        return digest(*(part for name, array in self.weights.items() for part in (name, array.tobytes())))


@dataclass(frozen=True, eq=False)
class FineTuned(Trained):
    """A fine-tuned model, and the epochs of its training as JSON says them."""

    epochs: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Distilled(Trained):
    """A distilled model, or what it started from where that agrees better with the full one.

    ``refit`` says what came of the refit before (None: there was none), and ``start`` is that refit (None: also where
    an earlier version did not keep it). ``seconds`` are those of the training with the teacher's answers (None: it was
    stopped in between).
    """

    report: DistillReport
    refit: RefitReport | None
    start: Refitted | None = None
    seconds: float | None = None


#: A model that was recovered after pruning.
Recovered = Refitted | FineTuned | Distilled


def weights_of(model: HeadModel) -> dict[str, NDArray[Any]]:
    """All weights of a model by name."""
    return {name: weight.detach().cpu().numpy() for name, weight in model.network.named_parameters()}


def refit_report(recovered: Recovered | None) -> RefitReport | None:
    """What a run file says of the refit, alone or before a distillation."""
    if isinstance(recovered, Refitted):
        return recovered.report
    return recovered.refit if isinstance(recovered, Distilled) else None


def distill_report(recovered: Recovered | None) -> DistillReport | None:
    """What a run file says of the distillation."""
    return recovered.report if isinstance(recovered, Distilled) else None
