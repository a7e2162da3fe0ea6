"""The overlap of two masks, and the overlap expected of random masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cahp.values import Bools


def jaccard(first: Bools, second: Bools) -> float:
    """Jaccard index of two masks of one shape: heads in both, of those in at least one (0 if both are empty)."""
    return int((first & second).sum()) / max(1, int((first | second).sum()))


def overlaps(masks: Sequence[Bools] | Bools) -> NDArray[np.float64]:
    """Jaccard index of every pair of ``R`` masks, ``(R * (R - 1) / 2,)``: first with second, first with third, ..."""
    return np.array([jaccard(first, second) for first, second in combinations(masks, 2)], dtype=np.float64)


def expected_overlap(sizes: Sequence[int], total: int) -> float:
    """Mean of ``overlaps`` of random masks with these sizes; NaN for fewer than two."""
    expected = [expected_jaccard(first, second, total) for first, second in combinations(sizes, 2)]
    if not expected:
        return math.nan
    return float(np.mean(expected))


@lru_cache(maxsize=4096)
def expected_jaccard(first: int, second: int, total: int) -> float:
    """Mean Jaccard index of two independent random sets of ``first`` and ``second`` out of ``total`` elements.

    Their intersection is hypergeometric: the sum over ``i`` of ``P(i) * i / (first + second - i)``, exactly.
    """
    if not first + second:
        return 0.0
    ways = math.comb(total, second)
    return sum(
        math.comb(first, shared) * math.comb(total - first, second - shared) / ways * shared / (first + second - shared)
        for shared in range(max(0, first + second - total), min(first, second) + 1)
    )
