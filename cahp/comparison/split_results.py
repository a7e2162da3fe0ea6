"""The results of a comparison on one split, checked and indexed: for the page, the terminal and the figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cahp.comparison.document import (
    TESTED,
    Area,
    AreaVerdict,
    ComparisonDocument,
    Mean,
    Participant,
    Primary,
    Verdict,
    list_tested,
)
from cahp.comparison.summary import Consensus, MethodCost, Summary
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.values import Estimate

#: More heads than any model has.
_MOST_HEADS = 65_536
#: Names of methods: short, and without any characters that Markdown interprets.
_NAME = re.compile("(?=.{1,60}$)[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")


@dataclass(frozen=True, eq=False)
class SplitResults:
    """The results of a comparison on one split, in one ``outcome`` of the ``outcomes`` that were measured.

    ``split`` has ``n`` texts, or units of another ``noun``. ``recoveries`` are in the order of the plan. ``means`` are
    by recovery, method and budget, ``areas`` by recovery and method; ``overall`` are the tests of areas. ``primary`` is
    the primary test, if it is on this split in this outcome; all others are descriptive. ``layers``
    (heads kept in each layer) are by method and budget. ``overlap`` is by two methods in the order of their names, or
    one method twice (its own masks), and budget; ``random_overlap`` by budget. ``full`` is the outcome of the full
    model by recovery.
    """

    document: ComparisonDocument
    outcome: str
    outcomes: tuple[str, ...]
    split: str
    n: int
    noun: str
    methods: Mapping[str, Participant]
    recoveries: tuple[str, ...]
    against: str
    rule: str
    means: Mapping[tuple[str, str, int], Mean]
    areas: Mapping[tuple[str, str], Area]
    verdicts: tuple[Verdict, ...]
    overall: tuple[AreaVerdict, ...]
    primary: Primary | None
    layers: Mapping[tuple[str, int], tuple[float, ...]]
    overlap: Mapping[tuple[str, str, int], float]
    random_overlap: Mapping[int, float]
    consensus: Mapping[int, Consensus]
    cost: Mapping[str, MethodCost]
    full: Mapping[str, float]

    @classmethod
    def of(cls, document: ComparisonDocument, summary: Summary, part: str, outcome: str | None = None) -> SplitResults:
        """Index the results of a comparison on ``part``, which is ``eval`` or ``report``.

        ``outcome`` None is the first that was measured.

        Raises:
            ValueError: If parts contradict each other.
        """
        texts = document.data.of(part)
        split = texts.split
        means = {(mean.recovery, mean.method, mean.budget): mean for mean in summary.means if mean.split == split}
        outcomes = _list_outcomes(list(means.values()))
        if not outcomes or outcome not in (None, *outcomes):
            raise ValueError("an outcome that was not measured")
        shown = outcome or outcomes[0]
        n = texts.examples
        if document.protocol(part) is not None:
            n = next(iter(means.values())).outcomes[shown].n
        areas = [area for area in summary.areas if (area.split, area.outcome) == (split, shown)]
        verdicts = [one for one in summary.verdicts if (one.split, one.outcome) == (split, shown)]
        overall = [one for one in summary.area_verdicts if (one.split, one.outcome) == (split, shown)]
        primary = summary.primary
        if primary is not None and (primary.split, primary.outcome) != (split, shown):
            primary = None
        overlap: dict[tuple[str, str, int], float] = {}
        random_overlap: dict[int, float] = {}
        for of_two in summary.overlap.methods:
            first, second = sorted(of_two.methods)
            overlap[first, second, of_two.budget] = of_two.jaccard
            random_overlap[of_two.budget] = of_two.chance
        for own in summary.overlap.seeds:
            overlap[own.method, own.method, own.budget] = own.jaccard
            random_overlap[own.budget] = own.chance
        results = cls(
            document=document,
            outcome=shown,
            outcomes=outcomes,
            split=split,
            n=n,
            noun=document.noun(part, shown),
            methods=document.methods,
            recoveries=tuple(name for name in document.recoveries if name in RECOVERIES),
            against=summary.against,
            rule=summary.rule,
            means=means,
            areas={(area.recovery, area.method): area for area in areas},
            verdicts=tuple(verdicts),
            overall=tuple(overall),
            primary=primary,
            layers={(row.method, row.budget): row.mean for row in summary.layers},
            overlap=overlap,
            random_overlap=random_overlap,
            consensus={row.budget: row for row in summary.consensus},
            cost={row.method: row for row in summary.cost},
            full=_measure_full(document, part, shown),
        )
        _check(results)
        return results

    @cached_property
    def budgets(self) -> tuple[int, ...]:
        """All measured budgets, ascending."""
        return tuple(sorted({budget for _, _, budget in self.means}))

    def budgets_after(self, recovery: str) -> list[int]:
        """The budgets measured after a recovery, ascending."""
        return sorted({budget for measured, _, budget in self.means if measured == recovery})

    def rank(self, recovery: str, budget: int) -> list[Mean]:
        """The means of the methods at a budget after a recovery, the best first."""
        means = [mean for (how, _, at), mean in self.means.items() if (how, at) == (recovery, budget)]
        rises = OUTCOMES[self.outcome].lower_is_better
        return sorted(means, key=lambda mean: self.estimate(mean).value, reverse=not rises)

    def tests_at(self, recovery: str, budget: int) -> list[Verdict]:
        """The tests of differences at a budget after a recovery."""
        return [test for test in self.verdicts if (test.recovery, test.budget) == (recovery, budget)]

    def estimate(self, mean: Mean) -> Estimate:
        """The outcome of a mean."""
        return mean.outcomes[self.outcome]

    def full_text(self, recovery: str = "none") -> str:
        """The outcome of the full model, such as ``96.5 %``."""
        return Estimate(self.full[recovery], None, self.n, OUTCOMES[self.outcome].unit).text

    def own_overlap(self, method: str) -> str:
        """The Jaccard index of a method's own masks over seeds, from budget to budget; empty with one mask."""
        indices = [index for (one, other, _), index in self.overlap.items() if one == other == method]
        if not indices:
            return ""
        ends = (f"{min(indices):.2f}", f"{max(indices):.2f}")
        return " to ".join(dict.fromkeys(ends))

    def rejections(self, recovery: str) -> str:
        """How many recoveries were rejected, by method; empty where that does not apply."""
        counts: dict[str, tuple[int, int]] = {}
        for (how, method, _), mean in self.means.items():
            if how == recovery and mean.rejected is not None:
                rejected, masks = counts.get(method, (0, 0))
                counts[method] = rejected + mean.rejected, masks + mean.masks
        if not counts:
            return ""
        all_rejected = sum(rejected for rejected, _ in counts.values())
        all_masks = sum(masks for _, masks in counts.values())
        words = f"recoveries rejected on held-out texts: {all_rejected} of {all_masks}"
        by_method = [f"{method} {rejected} of {masks}" for method, (rejected, masks) in counts.items() if rejected]
        if by_method:
            words += f" ({', '.join(by_method)})"
        return words

    def seeds_of(self, method: str) -> int:
        """The number of seeds that a method was measured with."""
        return max((mean.seeds for (_, name, _), mean in self.means.items() if name == method), default=0)

    def masks_of(self, method: str, recovery: str) -> int:
        """The number of masks of a method that were measured after a recovery."""
        return sum(mean.masks for (how, name, _), mean in self.means.items() if (how, name) == (recovery, method))

    @property
    def by_cost(self) -> tuple[str, ...]:
        """The recoveries, the cheapest first."""
        return tuple(name for name in RECOVERIES if name in self.recoveries)

    @property
    def total(self) -> int:
        """Heads of the full model."""
        return self.document.model.layers * self.document.model.heads

    @property
    def title(self) -> str:
        """Model, data and number of methods, as the label of a comparison."""
        title = f"{self.document.model.id} on {self.document.data.id}"
        if len(self.methods) == 1:
            return f"{title}, 1 method"
        return f"{title}, {len(self.methods)} methods"


def _list_outcomes(means: Sequence[Mean]) -> tuple[str, ...]:
    """The outcomes by which methods are tested; older files have intervals and tests of the accuracy alone."""
    if not means:
        return ()
    measured = set(TESTED)
    for mean in means:
        measured &= {name for name, estimate in mean.outcomes.items() if estimate.ci95}
    return list_tested(measured)


def _measure_full(document: ComparisonDocument, part: str, outcome: str) -> dict[str, float]:
    """The outcome of the full model by recovery, the mean over seeds."""
    values: dict[str, list[float]] = {}
    for cell in document.full:
        for recovery, result in cell.recoveries.items():
            if part in result.measured and outcome in result.measured[part]:
                values.setdefault(recovery, []).append(result.measured[part][outcome].value)
    if OUTCOMES[outcome].difference:
        # The full model does not differ from itself.
        alike = 0.0 if OUTCOMES[outcome].lower_is_better else 1.0
        values["none"] = [alike]
    return {recovery: float(np.mean(of_seeds)) for recovery, of_seeds in values.items()}


def mean_layer(kept: Sequence[float]) -> float:
    """The mean layer of the kept heads, from 0 (first) to L - 1 (last); ``kept`` are heads per layer."""
    counts = np.asarray(kept, dtype=np.float64)
    return float((np.arange(len(counts)) * counts).sum() / max(counts.sum(), 1e-12))


def _check(results: SplitResults) -> None:
    model = results.document.model
    if not 0 < results.total <= _MOST_HEADS:
        raise ValueError("an impossible number of heads")
    verdicts: tuple[Verdict, ...] = (*results.verdicts, *results.overall)
    budgets = set(results.budgets)
    recoveries = set(results.recoveries)
    if results.primary is not None:
        verdicts += results.primary.tests
        budgets |= set(results.primary.budgets)
        recoveries.add(results.primary.recovery)
    methods = {results.against, *results.cost}
    methods |= {method for _, method, _ in results.means}
    methods |= {method for method, _ in results.layers}
    methods |= {verdict.method for verdict in verdicts}
    # Names appear in headings, sentences, file names and columns.
    if not all(_NAME.fullmatch(method) for method in results.methods):
        raise ValueError("an invalid name of a method")
    recoveries |= {recovery for recovery, _, _ in results.means}
    recoveries |= {recovery for recovery, _ in results.areas}
    recoveries |= {verdict.recovery for verdict in verdicts}
    if not recoveries <= RECOVERIES.keys():
        raise ValueError("an unknown recovery")
    if not results.recoveries or not methods <= set(results.methods) or not results.means or "none" not in results.full:
        raise ValueError("methods that did not take part, or no means")
    critical = results.document.criticality
    if critical is not None and (
        np.shape(critical) != (model.layers, model.heads) or not 0 <= np.min(critical) <= np.max(critical) < np.inf
    ):
        raise ValueError("criticality that is negative, or of heads that the model does not have")
    if any(not 0 < budget <= results.total for budget in budgets):
        raise ValueError("an impossible budget")
    shapes: set[tuple[int, ...]] = {np.shape(mean) for mean in results.layers.values()}
    shapes |= {np.shape(consensus.share) for consensus in results.consensus.values()}
    if not shapes <= {(model.layers,), (model.layers, model.heads)}:
        raise ValueError("layers or heads that the model does not have")
