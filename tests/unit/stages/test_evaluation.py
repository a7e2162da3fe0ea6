from __future__ import annotations

import numpy as np

from cahp.stages.evaluation import better_labelling
from cahp.values import Evaluation


def evaluation(predictions: list[int], labels: list[int], classes: int = 2) -> Evaluation:
    names = tuple("abc"[:classes])
    return Evaluation(np.array(predictions), np.array(labels), np.full(len(labels), 0.5), names)


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
