from __future__ import annotations

import numpy as np
import pytest

from cahp.features.roles.habits import KINDS, average_maps, draw_pictures
from cahp.features.roles.panel import draw_picture
from cahp.run.bench import Bench
from cahp.stages.similarity import attend

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


def test_a_picture_is_the_root_of_the_attention_as_a_share_of_the_largest() -> None:
    patterns = np.array([[[0, 0.25], [0.01, 0.16]]], np.float32)
    assert draw_pictures(patterns).tolist() == [[[0, 255], [51, 204]]]
    figure = draw_picture(draw_pictures(patterns)[0], dark=False)
    # The first token is in the upper left.
    assert figure.layout.yaxis.range == (100, 0)
    assert list(figure.data[0].x) == [25, 75]
