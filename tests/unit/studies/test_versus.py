from __future__ import annotations

import numpy as np
import pytest

from cahp.run.bench import Bench
from cahp.studies.versus import Variant, Versus, only, versus
from cahp.values import Delta, Evaluation, HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

FULL, A, B = HeadMask.full(3, 4), HeadMask.of([0, 5, 9, 11], 3, 4), HeadMask.of([0, 4, 9], 3, 4)


def answers(predictions: list[int], labels: list[int]) -> Evaluation:
    return Evaluation(np.array(predictions), np.array(labels), np.zeros(len(labels)), ("no", "yes"))


def test_heads_are_told_apart_by_who_keeps_them() -> None:
    assert only(A, B) == (2, 2, 1)
    assert only(B, A) == (2, 1, 2)


def test_b_is_held_against_a_on_the_same_texts(small_bench: Bench) -> None:
    found = versus(small_bench, Variant(A), Variant(B))
    assert found is not None
    wins = small_bench.measurements.evaluate(small_bench.evaluation, mask=B).correct.astype(float)
    losses = small_bench.measurements.evaluate(small_bench.evaluation, mask=A).correct.astype(float)
    assert found.change.pp == pytest.approx(100 * (wins - losses).mean())
    assert found.change.ci95[0] <= found.change.pp <= found.change.ci95[1]
    back = versus(small_bench, Variant(B), Variant(A))
    assert back is not None
    assert back.change.pp == pytest.approx(-found.change.pp)


def test_all_heads_are_the_full_model_however_it_is_to_be_recovered(small_bench: Bench) -> None:
    found = versus(small_bench, Variant(FULL), Variant(FULL, "distill"))
    assert found is not None
    assert found.apart == []
    assert np.array_equal(found.a.losses, small_bench.full.losses)


def test_what_nobody_distilled_is_not_distilled_to_compare_it(small_bench: Bench) -> None:
    assert versus(small_bench, Variant(A), Variant(B, "distill")) is None


def test_texts_that_differ_are_counted_by_who_is_right() -> None:
    labels = [0, 1, 1, 0]
    found = Versus(answers([0, 1, 0, 1], labels), answers([1, 1, 1, 1], labels), Delta(0.0, (0.0, 0.0)))
    assert found.apart == [0, 2]
    assert found.right_alone == (1, 1)
