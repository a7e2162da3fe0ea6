from __future__ import annotations

import numpy as np
import pytest

from cahp.features.roles.habits import KINDS, HeadHabits, HeadMaps, head_habits, kept_habits, look
from cahp.run.bench import Bench
from cahp.stages.similarity import attend
from cahp.values import Cancelled

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
    def stop(stage: str, done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        look(small_bench.model, small_bench.evaluation, progress=stop)


def test_an_interval_is_that_of_a_mean_over_texts() -> None:
    shares = np.zeros((4, 1, len(KINDS)), dtype=np.float32)
    shares[:, 0, 0] = [0.2, 0.4, 0.4, 0.6]
    found = HeadHabits(shares, np.ones((4, 1), np.float32), np.arange(4), np.zeros((1, 2, 2), np.float32)).of(0)
    half = 1.96 * np.std([0.2, 0.4, 0.4, 0.6], ddof=1) / 2
    assert found["first"].value == pytest.approx(0.4)
    assert found["first"].ci95 == pytest.approx((0.4 - half, 0.4 + half), abs=1e-6)


def test_a_picture_is_the_root_of_the_attention_as_a_share_of_the_largest() -> None:
    patterns = np.array([[[0, 0.25], [0.01, 0.16]]], np.float32)
    shares = np.array([[[1, 0, 0, 0, 0, 0, 0]], [[0, 1, 0, 0, 0, 0, 0]]], np.float32)
    maps = HeadMaps.of(HeadHabits(shares, np.ones((2, 1), np.float32), np.arange(2), patterns))
    assert maps.pictures.tolist() == [[[0, 255], [51, 204]]]
    assert maps.shares[0, :2].tolist() == [0.5, 0.5]
    assert maps.texts == 2
