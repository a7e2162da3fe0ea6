"""One bootstrap for all: seeds and texts are drawn with replacement and independently (Owen 2007).

The draws are the same for whatever is asked, so that differences are paired and the interval of a difference is that of
the difference of draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.summary import Ends

DRAWS = 10_000
#: Draws for each of the tests that are corrected together: with fewer no p could be small enough after the correction,
#: since the smallest there can be is two of all draws.
_DRAWS_A_TEST = 80
_BLOCK = 1000
_SEED = 42


def draws_for(tests: int) -> int:
    """How many draws so many tests of one family have."""
    return max(DRAWS, -(-_DRAWS_A_TEST * tests // _BLOCK) * _BLOCK)


class Bootstrap:
    """Draws of ``seeds`` seeds and ``texts`` texts, enough for so many ``tests`` of one family."""

    def __init__(self, seeds: int, texts: int, *, tests: int = 1) -> None:
        random = np.random.default_rng(_SEED)
        drawn, blocks = [], []
        # What more tests need comes after what all have.
        for count in (DRAWS, draws_for(tests) - DRAWS):
            drawn.append(random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count))
            blocks.append(random.integers(2**32, size=count // _BLOCK))
        self._seeds, self._random = np.concatenate(drawn).astype(np.float64), np.concatenate(blocks)
        self._texts = texts

    @property
    def draws(self) -> int:
        """How many draws there are."""
        return len(self._seeds)

    def means(self, places: NDArray[np.int64], stack: NDArray[np.float64]) -> NDArray[np.float64]:
        """Means of ``stack (T, S, n)`` in each of the draws, ``(draws, T)``, for the seeds at ``places (S,)``."""
        weights = self._seeds[:, places]
        total = weights.sum(axis=1, keepdims=True)
        # A draw may hold none of the few seeds that a failing method was left with.
        weights = np.where(total > 0, weights / np.maximum(total, 1), 1 / len(places))
        flat = stack.reshape(-1, self._texts).T
        found = np.empty((self.draws, len(stack)))
        for block, seed in enumerate(self._random):
            part = slice(block * _BLOCK, (block + 1) * _BLOCK)
            picked = np.random.default_rng(int(seed)).multinomial(
                self._texts, np.full(self._texts, 1 / self._texts), size=_BLOCK
            )
            by_seed = (picked / self._texts) @ flat
            found[part] = np.einsum("bts,bs->bt", by_seed.reshape(_BLOCK, len(stack), -1), weights[part])
        return found


def interval(draws: NDArray[np.float64]) -> Ends:
    """The 95 % interval of ``draws``."""
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
