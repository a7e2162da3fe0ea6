from __future__ import annotations

import fakes
import numpy as np
import pytest
from copying import roles_of

from cahp.features.roles.figure import WORDS, glance_figure, pattern_figure, shares_figure
from cahp.features.roles.habits import (
    KINDS,
    HeadHabits,
    HeadMaps,
    head_habits,
    kept_habits,
    look,
    mean_over_texts,
)
from cahp.run.bench import Bench
from cahp.stages.similarity import attend
from cahp.values import Cancelled, Estimate, HeadMask
from cahp.values.head_roles import ROLES
from cahp.values.statistics import called

pytestmark = pytest.mark.usefixtures("one_thread")


def test_shares_are_of_one_head_s_attention_and_sum_to_one(small_bench: Bench) -> None:
    found = look(small_bench.model, small_bench.evaluation, pool=8)
    assert found.shares.shape == (40, 12, len(KINDS))
    assert found.shares.sum(axis=2) == pytest.approx(np.ones((40, 12)), abs=1e-5)
    assert (found.breadth >= 1 - 1e-5).all()
    assert (found.breadth <= found.lengths[:, None] + 1e-3).all()
    assert sum(share.value for share in found.of(3).values()) == pytest.approx(1, abs=1e-5)


def test_each_weight_counts_once_as_the_first_kind_that_it_is(small_bench: Bench) -> None:
    found = look(small_bench.model, small_bench.evaluation, pool=8)
    row = int(found.lengths.argmax())
    seen = attend(small_bench.model, small_bench.evaluation.inputs[row])
    weights, size = seen.by_head[5].astype(float), len(seen.tokens)
    assert size == found.lengths[row]
    assert seen.tokens[0] == "[CLS]"
    assert seen.tokens[-1] == "[SEP]"
    own = {kind: float(found.shares[row, 5, place]) for place, kind in enumerate(KINDS)}
    assert own["first"] == pytest.approx(weights[:, 0].mean(), abs=1e-5)
    assert own["separator"] == pytest.approx(weights[:, -1].mean(), abs=1e-5)
    # Words alone: the first and the last token count as what they are.
    between = range(1, size - 1)
    assert own["itself"] == pytest.approx(sum(weights[at, at] for at in between) / size, abs=1e-5)
    assert own["before"] == pytest.approx(sum(weights[at + 1, at] for at in between) / size, abs=1e-5)
    assert own["after"] == pytest.approx(sum(weights[at - 1, at] for at in between) / size, abs=1e-5)
    assert own["punctuation"] == 0


def test_what_heads_look_at_is_measured_once_and_found_again(
    small_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_habits(small_bench) is None
    first = head_habits(small_bench)
    assert kept_habits(small_bench) is not None
    monkeypatch.setattr("cahp.features.roles.habits.look", lambda *_, **__: pytest.fail("it was measured again"))
    again = head_habits(small_bench)
    assert np.array_equal(first.shares, again.shares)
    assert np.array_equal(first.patterns, again.patterns)


def test_watching_heads_stops_when_told_to(small_bench: Bench) -> None:
    with pytest.raises(Cancelled):
        look(small_bench.model, small_bench.evaluation, progress=fakes.stop_at())


def test_an_interval_is_that_of_a_mean_over_texts() -> None:
    shares = np.zeros((4, 1, len(KINDS)), dtype=np.float32)
    shares[:, 0, 0] = [0.2, 0.4, 0.4, 0.6]
    found = HeadHabits(shares, np.ones((4, 1), np.float32), np.arange(4), np.zeros((1, 2, 2), np.float32)).of(0)
    half = 3.182446 * np.std([0.2, 0.4, 0.4, 0.6], ddof=1) / 2
    assert found["first"].value == pytest.approx(0.4)
    assert found["first"].ci95 == pytest.approx((0.4 - half, 0.4 + half), abs=1e-6)
    # A share is not below 0, and one text has no interval.
    assert found["other"].ci95 == (0.0, 0.0)
    assert mean_over_texts(np.array([0.0, 0.0, 0.1]), "share").low == 0.0
    assert mean_over_texts(np.array([0.3])).ci95 is None


def test_a_picture_is_the_root_of_the_attention_as_a_share_of_the_largest() -> None:
    patterns = np.array([[[0, 0.25], [0.01, 0.16]]], np.float32)
    shares = np.array([[[1, 0, 0, 0, 0, 0, 0]], [[0, 1, 0, 0, 0, 0, 0]]], np.float32)
    maps = HeadMaps.of(HeadHabits(shares, np.ones((2, 1), np.float32), np.arange(2), patterns))
    assert maps.pictures.tolist() == [[[0, 255], [51, 204]]]
    assert maps.shares[0, :2].tolist() == [0.5, 0.5]
    assert maps.texts == 2


# Figures -------------------------------------------------------------------------------------------------------


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
