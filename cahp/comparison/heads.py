"""Which heads the methods of a comparison keep: by layer, in common with each other, and by everybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cahp.comparison.document import ComparisonDocument
from cahp.comparison.summary import Between, Consensus, LayerMeans, Within
from cahp.stages.overlap import expected_jaccard, jaccard, overlaps
from cahp.values import Bools


@dataclass(frozen=True, eq=False)
class Kept:
    """What a cell keeps, ``keep (L, H)``, and with which seed."""

    seed: int
    keep: Bools


#: By method and budget, in the document's order.
Masks = Mapping[tuple[str, int], Sequence[Kept]]


def masks(document: ComparisonDocument) -> Masks:
    """The masks of all cells without an error."""
    found: dict[tuple[str, int], list[Kept]] = {}
    for cell in document.finished:
        if cell.budget.attained is not None:
            kept = Kept(cell.seed, document.mask(cell))
            found.setdefault((cell.method, cell.budget.attained), []).append(kept)
    return found


def layers(kept: Masks) -> Iterator[LayerMeans]:
    """Heads that each method keeps in each layer, mean over its masks."""
    for (method, budget), group in kept.items():
        means = np.mean([one.keep.sum(axis=1) for one in group], axis=0)
        yield LayerMeans(method, budget, tuple(means.tolist()))


def between(kept: Masks, names: Sequence[str]) -> Iterator[Between]:
    """Overlap of every two methods at the same budget with the same seed, and what chance would make of it."""
    for (method, budget), group in kept.items():
        for other in names:
            # Each pair once.
            if other <= method:
                continue
            found = [
                jaccard(mine.keep, theirs.keep)
                for mine in group
                for theirs in kept.get((other, budget), ())
                if theirs.seed == mine.seed
            ]
            if found:
                yield Between((method, other), budget, _chance(group, budget), float(np.mean(found)))


def within(kept: Masks) -> Iterator[Within]:
    """Overlap of each method's masks at a budget, over seeds and draws, and what chance would make of it."""
    for (method, budget), group in kept.items():
        own = overlaps([one.keep for one in group])
        if len(own):
            yield Within(method, budget, _chance(group, budget), float(np.mean(own)), len(own))


def _chance(group: Sequence[Kept], budget: int) -> float:
    return expected_jaccard(budget, budget, group[0].keep.size)


def consensus(kept: Masks, choosing: Sequence[str]) -> Iterator[Consensus]:
    """Which heads everybody keeps and nobody keeps at each budget, of the methods that choose (and do not draw)."""
    for budget in sorted({budget for _, budget in kept}):
        shares = [
            np.mean([one.keep for one in group], axis=0)
            for (method, own), group in kept.items()
            if own == budget and method in choosing
        ]
        if not shares:
            continue
        # Shares of whole numbers of masks: they are 1 or 0 only if all of them agree.
        everybody, nobody = (np.argwhere(np.all(np.array(shares) == share, axis=0)).tolist() for share in (1.0, 0.0))
        yield Consensus(
            budget=budget,
            methods=len(shares),
            everybody=tuple((layer, head) for layer, head in everybody),
            nobody=tuple((layer, head) for layer, head in nobody),
            share=tuple(tuple(row) for row in np.mean(shares, axis=0).tolist()),
        )
