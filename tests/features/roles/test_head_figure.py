from __future__ import annotations

import numpy as np
import pytest
from copying import roles_of

from cahp.features.roles.habits import KINDS
from cahp.features.roles.head_figure import WORDS, glance_figure, pattern_figure, shares_figure
from cahp.values import Estimate, HeadMask
from cahp.values.head_roles import ROLES
from cahp.values.statistics import called


def share(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, (low, high), 64, "share")


def test_every_kind_of_attention_has_words_and_every_role_a_short_one_for_thumbnails() -> None:
    assert set(WORDS) == set(KINDS)
    assert max(len(role.short) for role in ROLES.values()) <= 4


def test_a_head_is_called_by_layer_and_place() -> None:
    assert [called(head, 12) for head in (0, 11, 12, 43)] == ["0.0", "0.11", "1.0", "3.7"]


def test_shares_carry_their_intervals() -> None:
    shares = {"first": share(0.5, 0.4, 0.6), "other": share(0.5, 0.35, 0.65)}
    figure = shares_figure(shares, dark=False)
    assert list(figure.data[0].x) == pytest.approx([50, 50])
    assert list(figure.data[0].error_x.array) == pytest.approx([10, 15])


@pytest.mark.parametrize(("layers", "heads"), [(6, 12), (24, 16), (1, 1)])
def test_every_head_has_its_thumbnail_its_word_and_a_place_to_click(layers: int, heads: int) -> None:
    total, size = layers * heads, 8
    pictures = np.random.default_rng(0).integers(0, 256, (total, size, size), dtype=np.uint8)
    mask = HeadMask.of(range(0, total, 3), layers, heads)
    roles = roles_of(*(("first", "none", "previous")[head % 3] for head in range(total)), heads=heads)
    figure = glance_figure(pictures, roles, mask, selected=total - 1, dark=False)
    canvas, words, points = figure.data
    wide, high = canvas.z.shape[1] // heads, canvas.z.shape[0] // layers
    # A byte a cell: 384 heads would be megabytes otherwise.
    assert canvas.z.dtype == np.uint8
    if total > 144:
        # They are smaller on screen, and half as fine.
        size //= 2
        pictures = pictures.reshape(-1, size, 2, size, 2).mean(axis=(2, 4)).round()
    for head in (0, total - 1):
        row, column = divmod(head, heads)
        seen = canvas.z[row * high : row * high + size, column * wide : column * wide + size]
        # Nothing has the colour of the ground.
        assert (seen == np.maximum(pictures[head], 1)).all()
    assert list(points.customdata) == list(range(total))
    assert list(words.text) == [("1st", "", "prev")[head % 3] for head in range(total)]
    # The kept ones are framed, and the chosen one once more.
    assert len(figure.layout.shapes) == mask.count + 1


def test_a_mean_pattern_has_its_first_token_in_the_upper_left() -> None:
    figure = pattern_figure(np.eye(4, dtype=np.float32), dark=False)
    assert figure.layout.yaxis.range == (100, 0)
    assert list(figure.data[0].x) == [12.5, 37.5, 62.5, 87.5]
