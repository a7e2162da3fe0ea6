"""One bootstrap for all: seeds and texts are drawn with replacement and independently (Owen 2007).

The draws are the same for whatever is asked, so that differences are paired and the interval of a difference is that of
the difference of draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.compare.summary import Ends

DRAWS = 10_000
_BLOCK = 1000
_SEED = 42


class Bootstrap:
    """Draws of ``seeds`` seeds and ``texts`` texts."""

    def __init__(self, seeds: int, texts: int) -> None:
        random = np.random.default_rng(_SEED)
        self._seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS).astype(np.float64)
        self._random = random.integers(2**32, size=-(-DRAWS // _BLOCK))
        self._texts = texts

    def means(self, places: NDArray[np.int64], stack: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of ``stack (T, S, n)`` in each of the draws, ``(DRAWS, T)``, for the seeds at ``places (S,)``."""
        weights = self._seeds[:, places]
        total = weights.sum(axis=1, keepdims=True)
        # A draw may hold none of the few seeds that a failing method was left with.
        weights = np.where(total > 0, weights / np.maximum(total, 1), 1 / len(places))
        flat = stack.reshape(-1, self._texts).T
        found = np.empty((DRAWS, len(stack)))
        for block, seed in enumerate(self._random):
            part = slice(block * _BLOCK, min((block + 1) * _BLOCK, DRAWS))
            size = part.stop - part.start
            picked = np.random.default_rng(int(seed)).multinomial(
                self._texts, np.full(self._texts, 1 / self._texts), size=size
            )
            by_seed = (picked / self._texts) @ flat
            found[part] = np.einsum("bts,bs->bt", by_seed.reshape(size, len(stack), -1), weights[part])
        return found


def interval(draws: NDArray[np.float64]) -> Ends:
    """The 95 % interval of draws ``(DRAWS,)``."""
    # Sums of many shares miss round numbers by rounding, and 0 from below would be written as minus 0.
    low, high = np.percentile(draws, [2.5, 97.5]).round(12) + 0.0
    return float(low), float(high)


def two_sided(draws: NDArray[np.float64]) -> float:
    """Twice the smaller share of draws at or beyond no difference on either side, counted so that it is never 0."""
    # Sums of many shares miss 0 by rounding.
    below = int((draws <= 1e-12).sum())
    above = int((draws >= -1e-12).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(draws)))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction: the smallest of m times m, the next times m - 1, ..., never falling."""
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected
