from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cahp.run.bench import Bench
from cahp.studies.one_head import LookAlikes, Removal, compare_head, remove_head
from cahp.values import DataError, Estimate, Evaluation, HeadMask, Texts

pytestmark = pytest.mark.usefixtures("one_thread")


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
