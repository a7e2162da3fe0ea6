from __future__ import annotations

import numpy as np
import pytest

from cahp.stages.evaluation import better_labelling, delta, flipped, metrics, wilson
from cahp.values import Evaluation


def evaluation(predictions: list[int], labels: list[int], classes: int = 2) -> Evaluation:
    names = tuple("abc"[:classes])
    return Evaluation(np.array(predictions), np.array(labels), np.full(len(labels), 0.5), names)


def test_wilson_s_interval_of_eight_in_ten_is_the_textbook_s() -> None:
    low, high = wilson(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)


def test_macro_f1_is_the_mean_over_the_classes_that_occur() -> None:
    # Class a: precision 1, recall 1/2, F1 2/3. Class b: precision 1/2, recall 1, F1 2/3. Class c never occurs.
    found = metrics(evaluation([0, 1, 1], [0, 0, 1], classes=3))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.macro_f1 == pytest.approx(2 / 3)
    assert (found.n, found.loss, found.agreement) == (3, 0.5, None)


def test_agreement_and_flips_compare_answers_not_labels() -> None:
    full, pruned = evaluation([0, 1, 1, 0], [0, 0, 1, 1]), evaluation([0, 0, 1, 1], [0, 0, 1, 1])
    assert metrics(pruned, full=full).agreement == 0.5
    assert flipped(pruned, full).tolist() == [1, 3]


def test_a_difference_is_in_points_and_its_interval_holds_it() -> None:
    labels = [0] * 100
    full, pruned = evaluation([0] * 90 + [1] * 10, labels), evaluation([0] * 70 + [1] * 30, labels)
    found = delta(pruned, full)
    assert found.pp == pytest.approx(-20)
    assert found.ci95[0] < -20 < found.ci95[1] < 0
    assert found.measurable


def test_the_same_answers_differ_by_nothing() -> None:
    same = evaluation([0, 1], [0, 0])
    found = delta(same, same)
    assert (found.pp, found.ci95, found.measurable) == (0.0, (0.0, 0.0), False)


def test_a_permuted_labelling_is_noticed_and_says_what_to_map() -> None:
    labels = [0, 1, 2] * 20
    permuted = evaluation([[2, 0, 1][label] for label in labels], labels, classes=3)
    found = better_labelling(permuted)
    assert found is not None
    assert found[0] == 1.0
    assert found[1] == {"a": "c", "b": "a", "c": "b"}


def test_a_poor_model_is_not_taken_for_a_permuted_one() -> None:
    labels = [0, 1] * 50
    assert better_labelling(evaluation([0] * 100, labels)) is None


def test_evaluations_of_other_examples_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different examples"):
        delta(evaluation([0], [0]), evaluation([0], [1]))


def test_no_examples_have_no_metrics() -> None:
    with pytest.raises(ValueError, match="no examples"):
        metrics(evaluation([], []))
