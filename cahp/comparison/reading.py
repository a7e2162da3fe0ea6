"""What a ``compare.json`` says on one split, checked and ready to be looked up: for the page, the terminal, figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cahp.comparison.document import CellRecord, ComparisonDocument, Participant
from cahp.comparison.summary import Area, AreaVerdict, Consensus, Mean, MethodCost, Summary, Verdict
from cahp.recoveries import RECOVERIES

#: More heads than any model has; a file that claims more is not one of ours.
_MOST_HEADS = 65_536
#: What a method may be called: short, and nothing in it means anything to Markdown.
_NAME = re.compile("(?=.{1,60}$)[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")

#: What may have been done after pruning, in the order in which it is shown.
_RECOVERIES: tuple[str, ...] = tuple(RECOVERIES)


@dataclass(frozen=True, eq=False)
class Reading:
    """What a comparison says on one split.

    ``split`` has ``n`` texts; ``calibration`` is how many texts choose. ``recoveries`` are in the order they were asked
    for. ``means`` by recovery, method and budget; ``areas`` by recovery and method; ``overall`` the tests of areas;
    ``layers`` (heads kept in each layer) by method and budget; ``overlap`` by two methods in the order of their names,
    or one method twice (its own masks), and budget; ``chance`` by budget; ``full`` accuracy of all heads by recovery.
    """

    model: str
    model_sha256: str
    layers_of_model: int
    heads: int
    data: str
    split: str
    n: int
    calibration: int
    seeds: int
    masks: int
    methods: Mapping[str, Participant]
    recoveries: tuple[str, ...]
    against: str
    rule: str
    means: Mapping[tuple[str, str, int], Mean]
    areas: Mapping[tuple[str, str], Area]
    verdicts: tuple[Verdict, ...]
    overall: tuple[AreaVerdict, ...]
    layers: Mapping[tuple[str, int], tuple[float, ...]]
    overlap: Mapping[tuple[str, str, int], float]
    chance: Mapping[int, float]
    consensus: Mapping[int, Consensus]
    cost: Mapping[str, MethodCost]
    full: Mapping[str, float]
    notices: tuple[str, ...]
    command: str
    test_opened: int

    @classmethod
    def of(cls, document: ComparisonDocument, summary: Summary, part: str) -> Reading:
        """A comparison, read on the split of ``part``, which is ``eval`` or ``report``.

        Raises:
            ValueError: If parts do not fit each other.
        """
        model, texts = document.model, document.data.of(part)
        split = texts.split
        found = cls(
            model=model.id,
            model_sha256=model.sha256,
            layers_of_model=model.layers,
            heads=model.heads,
            data=document.data.id,
            split=split,
            n=texts.examples,
            calibration=max(one.examples for one in document.data.select),
            seeds=len(document.seeds),
            masks=len(document.cells),
            methods=document.methods,
            recoveries=tuple(name for name in document.recoveries if name in _RECOVERIES),
            against=summary.against,
            rule=summary.rule,
            means={(one.recovery, one.method, one.budget): one for one in summary.means if one.split == split},
            areas={(one.recovery, one.method): one for one in summary.areas if one.split == split},
            verdicts=tuple(one for one in summary.verdicts if one.split == split),
            overall=tuple(one for one in summary.area_verdicts if one.split == split),
            layers={(one.method, one.budget): one.mean for one in summary.layers},
            overlap={
                **{(*_sorted(one.methods), one.budget): one.jaccard for one in summary.overlap.methods},
                **{(one.method, one.method, one.budget): one.jaccard for one in summary.overlap.seeds},
            },
            chance={
                **{one.budget: one.chance for one in summary.overlap.methods},
                **{one.budget: one.chance for one in summary.overlap.seeds},
            },
            consensus={one.budget: one for one in summary.consensus},
            cost={one.method: one for one in summary.cost},
            full=_full(document.full, part),
            notices=document.notices,
            command=document.command or "",
            test_opened=document.test_opened,
        )
        _check(found)
        return found

    @cached_property
    def budgets(self) -> tuple[int, ...]:
        """All numbers of heads that something was measured at, ascending."""
        return tuple(sorted({budget for _, _, budget in self.means}))

    def seeds_of(self, method: str) -> int:
        """Seeds that a method was measured with: one is enough for a method that chance does not touch."""
        return max((mean.seeds for (_, name, _), mean in self.means.items() if name == method), default=0)

    def masks_of(self, method: str, recovery: str) -> int:
        """Masks of a method that were recovered so."""
        return sum(mean.masks for (how, name, _), mean in self.means.items() if (how, name) == (recovery, method))

    @property
    def by_cost(self) -> tuple[str, ...]:
        """The recoveries, the cheapest first."""
        return tuple(name for name in _RECOVERIES if name in self.recoveries)

    @property
    def total(self) -> int:
        """Heads of the unpruned model."""
        return self.layers_of_model * self.heads

    @property
    def title(self) -> str:
        """Model, data and size, as a choice among comparisons says it."""
        count = len(self.methods)
        return f"{self.model} on {self.data}, {count} method{'' if count == 1 else 's'}"


def towards_output(mean: Sequence[float]) -> float:
    """The mean layer of the heads that are kept, from 0 (first) to L - 1 (last)."""
    kept = np.asarray(mean, dtype=np.float64)
    return float((np.arange(len(kept)) * kept).sum() / max(kept.sum(), 1e-12))


def _check(found: Reading) -> None:
    if not 0 < found.total <= _MOST_HEADS:
        raise ValueError("an impossible number of heads")
    named = {
        found.against,
        *(method for _, method, _ in found.means),
        *(method for method, _ in found.layers),
        *(verdict.method for verdict in (*found.verdicts, *found.overall)),
        *found.cost,
    }
    # Names stand in headings and sentences, and in the names of files and columns.
    if not all(_NAME.fullmatch(method) for method in found.methods):
        raise ValueError("a method whose name is none")
    recoveries = {
        *found.recoveries,
        *(recovery for recovery, _, _ in found.means),
        *(recovery for recovery, _ in found.areas),
        *(verdict.recovery for verdict in (*found.verdicts, *found.overall)),
    }
    if not recoveries <= set(_RECOVERIES):
        raise ValueError("a recovery that there is not")
    if not found.recoveries or not named <= set(found.methods) or not found.means or "none" not in found.full:
        raise ValueError("methods that did not take part, or no means")
    if any(not 0 < budget <= found.total for budget in found.budgets):
        raise ValueError("an impossible budget")
    shapes = {len(mean) for mean in found.layers.values()} | {np.shape(one.share) for one in found.consensus.values()}
    if not shapes <= {found.layers_of_model, (found.layers_of_model, found.heads)}:
        raise ValueError("layers or heads that the model does not have")


def _sorted(names: tuple[str, str]) -> tuple[str, str]:
    first, second = sorted(names)
    return first, second


def _full(cells: Sequence[CellRecord], part: str) -> dict[str, float]:
    """Accuracy of all heads after each recovery that changes them, the mean over seeds."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        for recovery, measured in cell.recoveries.items():
            quality = measured.on(part)
            if quality is not None:
                found.setdefault(recovery, []).append(quality.accuracy)
    return {recovery: float(np.mean(values)) for recovery, values in found.items()}
