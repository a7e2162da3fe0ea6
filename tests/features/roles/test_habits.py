from __future__ import annotations

import fakes
import numpy as np
import pytest

from cahp.features.roles.habits import KINDS, average_maps, draw_pictures, measure_maps, stored_maps
from cahp.features.roles.panel import draw_picture
from cahp.run.bench import Bench
from cahp.stages.similarity import attend
from cahp.values import Cancelled
from cahp.values.head_roles import ROLES
from cahp.values.statistics import called

pytestmark = pytest.mark.usefixtures("one_thread")


def test_each_weight_counts_once_as_the_first_kind_that_it_is(small_bench: Bench) -> None:
    every = average_maps(small_bench.model, small_bench.evaluation, pool=8)
    assert every.shares.shape == (12, len(KINDS))
    assert every.shares.sum(axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    maps = average_maps(small_bench.model, small_bench.evaluation.take(np.array([3])), pool=8)
    seen = attend(small_bench.model, small_bench.evaluation.inputs[3])
    weights, size = seen.by_head[5].astype(float), len(seen.tokens)
    assert seen.tokens[0] == "[CLS]"
    assert seen.tokens[-1] == "[SEP]"
    # Words alone: the first and the last token count as what they are.
    between = range(1, size - 1)
    assert maps.shares[5, :6] == pytest.approx(
        [
            weights[:, 0].mean(),
            weights[:, -1].mean(),
            sum(weights[at, at] for at in between) / size,
            sum(weights[at + 1, at] for at in between) / size,
            sum(weights[at - 1, at] for at in between) / size,
            0,
        ],
        abs=1e-5,
    )


def test_maps_are_measured_once_and_found_again(small_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stored_maps(small_bench) is None
    first = measure_maps(small_bench)
    monkeypatch.setattr("cahp.features.roles.habits.average_maps", lambda *_, **__: pytest.fail("measured again"))
    again = measure_maps(small_bench)
    assert np.array_equal(first.shares, again.shares)
    assert np.array_equal(first.pictures, again.pictures)
    assert first.texts == again.texts == len(small_bench.evaluation)


def test_measuring_maps_stops_when_told_to(small_bench: Bench) -> None:
    with pytest.raises(Cancelled):
        average_maps(small_bench.model, small_bench.evaluation, progress=fakes.stop_at())


def test_a_picture_is_the_root_of_the_attention_as_a_share_of_the_largest() -> None:
    patterns = np.array([[[0, 0.25], [0.01, 0.16]]], np.float32)
    assert draw_pictures(patterns).tolist() == [[[0, 255], [51, 204]]]
    figure = draw_picture(draw_pictures(patterns)[0], dark=False)
    # The first token is in the upper left.
    assert figure.layout.yaxis.range == (100, 0)
    assert list(figure.data[0].x) == [25, 75]


def test_heads_are_called_by_layer_and_place_and_roles_by_few_letters() -> None:
    assert max(len(role.short) for role in ROLES.values()) <= 4
    assert [called(head, 12) for head in (0, 11, 12, 43)] == ["0.0", "0.11", "1.0", "3.7"]
