"""The size of a cache of keys and values, by hand: two layers of three heads."""

import numpy as np
import pytest

from cahp.models.cards import CacheShape
from cahp.values import HeadMask

FULL = HeadMask.full(2, 3)
#: Two heads in the first layer, one in the second.
MASK = HeadMask(np.array([[True, False, True], [False, True, False]]))
#: The first layer keeps no head.
EMPTY = HeadMask(np.array([[False, False, False], [True, True, False]]))


def test_keys_and_values_leave_the_cache_with_their_heads() -> None:
    shape = CacheShape(head=512)
    assert [shape.per_token(mask) for mask in (FULL, MASK, EMPTY)] == [6 * 512, 3 * 512, 2 * 512]
    assert shape.ratio(MASK).value == 0.5
    assert str(shape.ratio(MASK)) == "0.50 ×"


def test_a_layer_with_a_window_caches_no_more_than_its_latest_tokens() -> None:
    shape = CacheShape(head=10, windows=((1, 100),))
    assert shape.of_context(MASK, 50) == 50 * 30
    assert shape.of_context(MASK, 400) == 400 * 20 + 100 * 10
    # Of a layer that uses the keys and values of another one, nothing is cached.
    assert CacheShape(head=10, windows=((1, 0),)).per_token(FULL) == 30


@pytest.mark.parametrize(
    ("shape", "memory", "longest"),
    [
        (CacheShape(head=10), 299, 9),
        (CacheShape(head=10), 300, 10),
        (CacheShape(head=10), 29, 0),
        (CacheShape(head=10, positions=8), 300, 8),
        (CacheShape(head=10, windows=((0, 4), (1, 4))), 120, None),
        (CacheShape(head=10, windows=((0, 4), (1, 4))), 119, 3),
        (CacheShape(head=10, windows=((0, 4), (1, 4)), positions=9), 120, 9),
    ],
)
def test_the_longest_context_fits_and_no_token_more(shape: CacheShape, memory: int, longest: int | None) -> None:
    assert shape.longest(MASK, memory) == longest
