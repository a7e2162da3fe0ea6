from __future__ import annotations

import fakes
import numpy as np
import pytest
import torch
from torch import nn

from cahp.models.head_model import HeadModel
from cahp.stages.signatures import examples_used, gate_gradients, salience


@pytest.mark.parametrize(("total", "used"), [(1, 1), (31, 31), (33, 32), (256, 64), (640, 160), (2000, 480), (129, 32)])
def test_a_quarter_of_the_batches_is_used_and_at_least_one(total: int, used: int) -> None:
    texts = fakes.sentences(1)
    assert examples_used(texts.take([0] * total)) == used


def test_gradients_are_those_of_finite_differences(model: HeadModel) -> None:
    texts = fakes.sentences(6)
    found = gate_gradients(model, texts)
    step = 1e-2

    def loss(gates: torch.Tensor) -> np.ndarray:
        losses = np.zeros(len(texts))
        for batch in model.batches(model.tokenize(texts.inputs)):
            labels = torch.tensor(texts.labels[batch.rows])
            losses[batch.rows] = nn.functional.cross_entropy(
                model.logits(batch, gates=gates), labels, reduction="none"
            ).numpy()
        return losses

    for layer in range(model.layers):
        for head in range(model.heads):
            change = torch.zeros(model.layers, model.heads)
            change[layer, head] = step
            slope = (loss(1 + change) - loss(1 - change)) / (2 * step)
            assert np.allclose(found[:, layer, head], slope, atol=2e-3)


def test_signed_gradients_may_cancel_in_a_batch_but_not_per_example() -> None:
    values = np.zeros((2, 1, 3))
    values[:, 0] = [[1.0, 0.5, 0.0], [-1.0, 0.5, 0.0]]
    assert salience(values, how="batch").tolist() == [[0.0, 1.0, 0.0]]
    assert salience(values, how="example").tolist() == [[1.0, 0.5, 0.0]]
