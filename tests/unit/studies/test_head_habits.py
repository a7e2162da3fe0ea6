from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cahp.run.bench import Bench
from cahp.stages.similarity import attend
from cahp.studies.head_habits import (
    KINDS,
    HeadHabits,
    LookAlikes,
    Removal,
    compare_head,
    head_habits,
    kept_habits,
    look,
    remove_head,
)
from cahp.values import Cancelled, DataError, Estimate, Evaluation, HeadMask, Texts

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
    monkeypatch.setattr("cahp.studies.head_habits.look", lambda *_, **__: pytest.fail("it was measured again"))
    again = head_habits(small_bench)
    assert np.array_equal(first.shares, again.shares)
    assert np.array_equal(first.patterns, again.patterns)


def test_watching_heads_stops_when_told_to(small_bench: Bench) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        look(small_bench.model, small_bench.evaluation, progress=stop)


def test_a_head_looks_mostly_where_two_fifths_go_and_other_words_are_no_place() -> None:
    means = np.array([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.0], [0.2, 0.1, 0, 0, 0, 0, 0.7], [0, 0, 0, 0.4, 0, 0, 0.6]])
    shares = np.repeat(means[None], 2, axis=0).astype(np.float32)
    found = HeadHabits(shares, np.ones((2, 3), np.float32), np.array([4, 5]), np.zeros((3, 2, 2), np.float32))
    assert found.mostly == ["first", "broad", "before"]


def test_an_interval_is_that_of_a_mean_over_texts() -> None:
    shares = np.zeros((4, 1, len(KINDS)), dtype=np.float32)
    shares[:, 0, 0] = [0.2, 0.4, 0.4, 0.6]
    found = HeadHabits(shares, np.ones((4, 1), np.float32), np.arange(4), np.zeros((1, 2, 2), np.float32)).of(0)
    half = 1.96 * np.std([0.2, 0.4, 0.4, 0.6], ddof=1) / 2
    assert found["first"].value == pytest.approx(0.4)
    assert found["first"].ci95 == pytest.approx((0.4 - half, 0.4 + half), abs=1e-6)


# --- one head


def test_removing_one_head_is_compared_with_all_heads_text_by_text(small_bench: Bench) -> None:
    found = remove_head(small_bench, 7)
    without = small_bench.measurements.evaluate(small_bench.evaluation, mask=HeadMask.of(set(range(12)) - {7}, 3, 4))
    assert np.array_equal(found.without.losses, without.losses)
    assert found.rise == pytest.approx(without.losses - small_bench.full.losses)
    assert found.mean_rise.value == pytest.approx(found.rise.mean())
    assert found.changed == int((without.predictions != small_bench.full.predictions).sum())
    strongest = found.strongest(3)
    assert found.rise[strongest].tolist() == sorted(found.rise.tolist(), reverse=True)[:3]


def test_texts_that_a_head_harms_are_none_that_it_matters_for() -> None:
    losses = (np.array([0.1, 0.5, 0.3]), np.array([0.2, 0.2, 0.2]))
    scores = (np.log(np.stack([np.exp(-one), 1 - np.exp(-one)], axis=1)).astype(np.float32) for one in losses[::-1])
    full, without = (Evaluation(one, np.zeros(3, int), ("a", "b")) for one in scores)
    assert Removal(without, full, Estimate(0.0, (0.0, 0.0), 3, "points")).strongest(3) == [1, 2]


def test_look_alikes_are_nearest_first_with_intervals_and_found_again(
    small_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compare_head(small_bench, 4)
    assert found.distances.shape == (24, 12)
    assert (found.distances[:, 4] == 0).all()
    near = found.nearest(3)
    means = found.distances.mean(axis=0)
    assert [head for head, _ in near] == [int(head) for head in np.argsort(means) if head != 4][:3]
    assert near[0][1].low < near[0][1].value < near[0][1].high
    monkeypatch.setattr("cahp.stages.similarity.attend", lambda *_: pytest.fail("it was measured again"))
    assert np.array_equal(compare_head(small_bench, 4).distances, found.distances)


def test_texts_without_a_word_are_left_out_of_look_alikes(small_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Texts(("", "good film", "bad plot"), None, np.array([0, 1, 0]), small_bench.evaluation.classes)
    assert compare_head(replace(small_bench, evaluation=texts), 2).texts == 2
    nothing = replace(small_bench, evaluation=texts.take([0]))
    with pytest.raises(DataError, match="the evaluation texts are empty"):
        compare_head(nothing, 2)


def test_look_alikes_know_their_texts() -> None:
    assert LookAlikes(0, np.zeros((5, 3), np.float32)).texts == 5
