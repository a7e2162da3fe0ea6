"""How much two choices of heads have in common, and how much two random ones would."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from cahp.values import Bools


def jaccard(first: Bools, second: Bools) -> float:
    """Heads that both keep, of those that at least one keeps; 0 where neither keeps any. Both have one shape."""
    return int((first & second).sum()) / max(1, int((first | second).sum()))


def overlaps(masks: Sequence[Bools] | Bools) -> NDArray[np.float64]:
    """Jaccard index of every pair of ``R`` masks, ``(R * (R - 1) / 2,)``: first with second, first with third, ..."""
    return np.array([jaccard(first, second) for first, second in combinations(masks, 2)], dtype=np.float64)


def expected_overlap(sizes: Sequence[int], total: int) -> float:
    """Mean of ``overlaps`` if each mask were drawn at random with its size; not a number of fewer than two."""
    expected = [expected_jaccard(first, second, total) for first, second in combinations(sizes, 2)]
    return float(np.mean(expected)) if expected else math.nan


@lru_cache(maxsize=4096)
def expected_jaccard(first: int, second: int, total: int) -> float:
    """Mean Jaccard index of two independent random sets of ``first`` and ``second`` out of ``total`` things.

    What they share is hypergeometric: the sum over ``i`` of ``P(i) * i / (first + second - i)``, exactly.
    """
    if not first + second:
        return 0.0
    ways = math.comb(total, second)
    return sum(
        math.comb(first, shared) * math.comb(total - first, second - shared) / ways * shared / (first + second - shared)
        for shared in range(max(0, first + second - total), min(first, second) + 1)
    )
