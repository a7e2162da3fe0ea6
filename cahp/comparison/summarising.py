"""The summary of a comparison, computed from its document and its predictions, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.comparison import statistics
from cahp.comparison.document import ComparisonDocument
from cahp.comparison.plan import REFERENCE
from cahp.comparison.summary import (
    Area,
    AreaVerdict,
    Consensus,
    LayerMeans,
    Mean,
    MethodCost,
    MethodOverlap,
    Overlap,
    SeedOverlap,
    Summary,
    Verdict,
)
from cahp.stages.overlap import expected_jaccard, jaccard, overlaps
from cahp.values import Bools, OptionError

#: Masks with their seeds, by method and budget, in the document's order.
Masks = Mapping[tuple[str, int], Sequence[tuple[int, Bools]]]


def summarise(
    document: ComparisonDocument, correct: Mapping[str, NDArray[np.bool_]], *, against: str | None = None
) -> Summary:
    """Summarise a comparison; ``against`` is the reference method, with which the others are compared.

    ``correct`` tells by part (``eval`` or ``report``) which predictions are correct, ``(R, n)``.

    Raises:
        OptionError: If the reference method did not take part.
    """
    names = list(document.methods)
    against = against or (REFERENCE if REFERENCE in names else names[0])
    if against not in names:
        raise OptionError(f"{against!r} is not in this comparison; choose one of {', '.join(names)}")
    means: list[Mean] = []
    areas: list[Area] = []
    verdicts: list[Verdict] = []
    area_verdicts: list[AreaVerdict] = []
    budgets = sorted({cell.budget.attained for cell in document.finished if cell.budget.attained is not None})
    tests = (len(names) - 1) * len(budgets)
    for part, rows in correct.items():
        bootstrap = statistics.Bootstrap(len(document.seeds), rows.shape[1], tests=tests)
        for recovery in document.recoveries:
            measured = statistics.RecoveryStatistics(document, rows, bootstrap, part=part, recovery=recovery)
            means += measured.means()
            areas += measured.areas()
            verdicts += measured.verdicts(against)
            area_verdicts += measured.area_verdicts(against, budgets)
    masks = _collect_masks(document)
    return Summary(
        against=against,
        rule=statistics.describe_tests(against, draws=statistics.count_draws(tests)),
        means=tuple(means),
        areas=tuple(areas),
        verdicts=tuple(verdicts),
        area_verdicts=tuple(area_verdicts),
        layers=tuple(_layer_means(masks)),
        overlap=Overlap(tuple(_method_overlaps(masks, names)), tuple(_seed_overlaps(masks))),
        consensus=tuple(_consensus(masks, [name for name in names if not document.methods[name].random])),
        cost=tuple(_method_costs(document)),
    )


def _method_costs(document: ComparisonDocument) -> Iterator[MethodCost]:
    """The cost of each method: forward passes and labels as if nothing were cached, and measured seconds.

    All are of the costliest budget, the mean over seeds. Evidence that another method of the same comparison had
    gathered before takes no seconds again: forward passes compare methods, seconds describe this comparison.
    """
    for method in document.methods:
        cells = [cell for cell in document.finished if cell.method == method]
        if not cells:
            continue
        seeds = sorted({cell.seed for cell in cells})
        costliest = [max(cell.seconds.score or 0.0 for cell in cells if cell.seed == seed) for seed in seeds]
        prices = [cell.price for cell in cells if cell.price]
        yield MethodCost(
            method=method,
            forwards=max((price.forwards for price in prices), default=None),
            labels=max((price.labels for price in prices), default=None),
            score_s=float(np.mean(costliest)),
            recovery_s={
                recovery: statistics.mean_or_none(cell.seconds.recovery.get(recovery) for cell in cells)
                for recovery in document.recoveries
                if recovery != "none"
            },
        )


# Which heads methods keep ------------------------------------------------------------------------------------


def _collect_masks(document: ComparisonDocument) -> Masks:
    """The masks of all cells without an error."""
    masks: dict[tuple[str, int], list[tuple[int, Bools]]] = {}
    for cell in document.finished:
        if cell.budget.attained is not None:
            masks.setdefault((cell.method, cell.budget.attained), []).append((cell.seed, document.mask(cell)))
    return masks


def _layer_means(masks: Masks) -> Iterator[LayerMeans]:
    """Heads that each method keeps in each layer, mean over its masks."""
    for (method, budget), group in masks.items():
        means = np.mean([keep.sum(axis=1) for _, keep in group], axis=0)
        yield LayerMeans(method, budget, tuple(means.tolist()))


def _method_overlaps(masks: Masks, names: Sequence[str]) -> Iterator[MethodOverlap]:
    """Overlap of every two methods at the same budget with the same seed."""
    for (method, budget), group in masks.items():
        # Each pair once.
        for other in [name for name in names if name > method]:
            indices = [
                jaccard(keep, other_keep)
                for seed, keep in group
                for other_seed, other_keep in masks.get((other, budget), ())
                if other_seed == seed
            ]
            if indices:
                yield MethodOverlap((method, other), budget, _random_overlap(group, budget), float(np.mean(indices)))


def _seed_overlaps(masks: Masks) -> Iterator[SeedOverlap]:
    """Overlap of each method's masks at a budget, over seeds and draws."""
    for (method, budget), group in masks.items():
        indices = overlaps([keep for _, keep in group])
        if len(indices):
            mean = float(np.mean(indices))
            yield SeedOverlap(method, budget, _random_overlap(group, budget), mean, len(indices))


def _random_overlap(group: Sequence[tuple[int, Bools]], budget: int) -> float:
    return expected_jaccard(budget, budget, group[0][1].size)


def _consensus(masks: Masks, selecting: Sequence[str]) -> Iterator[Consensus]:
    """The heads that all ``selecting`` methods keep, and that none keeps, at each budget."""
    for budget in sorted({budget for _, budget in masks}):
        shares = [
            np.mean([keep for _, keep in group], axis=0)
            for (method, own_budget), group in masks.items()
            if own_budget == budget and method in selecting
        ]
        if not shares:
            continue
        # Shares of whole numbers of masks are exactly 1 or 0 if all masks agree.
        kept_by_all, kept_by_none = (
            tuple((int(layer), int(head)) for layer, head in np.argwhere(np.all(np.array(shares) == share, axis=0)))
            for share in (1.0, 0.0)
        )
        yield Consensus(
            budget=budget,
            methods=len(shares),
            everybody=kept_by_all,
            nobody=kept_by_none,
            share=tuple(tuple(row) for row in np.mean(shares, axis=0).tolist()),
        )
