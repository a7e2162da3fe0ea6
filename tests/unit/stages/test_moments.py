"""Moments of context vectors and gradients, compared with sums written out text by text and class by class."""

from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from torch import nn

from cahp import models
from cahp.models import reading
from cahp.models.head_model import HeadModel
from cahp.models.reading import fisher_score
from cahp.models.vocabulary import vocabulary_logits
from cahp.models.windows import cut_windows
from cahp.stages.signatures import collect_moments, examples_used, gate_gradients, salience


def test_moments_are_means_of_the_exact_fisher_information(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(str(fakes.save_model(tmp_path, labels=("bad", "fair", "good"))), device="cpu")
    texts = fakes.sentences(9)
    width = model.card.hidden
    contexts, gradients = (np.zeros((model.layers, width, width)) for _ in range(2))
    products = np.zeros((model.layers, model.heads, model.heads))
    tokens = 0
    for batch in model.batches(model.tokenize(texts.inputs), size=1):
        seen: list[torch.Tensor] = []
        gates = torch.ones(model.layers, model.heads, requires_grad=True)
        logits = model.logits(batch, gates=gates, tap=lambda site, _, x, s=seen: s.append(x) if site == "output" else 0)
        for column, share in enumerate(logits[0].softmax(-1).tolist()):
            slopes = torch.autograd.grad(logits[0].log_softmax(-1)[column], seen, retain_graph=True)
            for layer, slope in enumerate(slopes):
                gradients[layer] += share * (slope[0].T @ slope[0]).numpy()
                alone = (slope[0] * seen[layer][0]).sum(0).reshape(model.heads, -1).sum(1).detach().numpy()
                products[layer] += share * np.outer(alone, alone)
        for layer, entering in enumerate(seen):
            contexts[layer] += (entering[0].T @ entering[0]).detach().numpy()
        tokens += int(batch.lengths.sum())
    found = []
    for column in range(3):
        # One class after the other: the sum of these products is the covariance of the classes.
        def one(logits: torch.Tensor, _: torch.Generator, column: int = column) -> torch.Tensor:
            shares = logits.softmax(-1)
            return shares[:, column, None].sqrt() * (torch.eye(3)[column] - shares)

        monkeypatch.setattr(reading, "draw_curvature", one)
        found.append(collect_moments(model, texts))
    assert np.allclose(found[0].contexts, contexts / tokens, atol=1e-5)
    assert np.allclose(sum(one.gradients for one in found), gradients / tokens, rtol=1e-3, atol=1e-7)
    assert np.allclose(sum(one.products for one in found), products / len(texts), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_scores_of_windows_are_sums_over_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path, family=family)), device="cpu")
    windows = cut_windows(model.card, fakes.sentences(20), window=12, tokens=48)
    (batch,) = model.batches(model.tokenize(windows.inputs))
    # Weights that are the same whenever they are drawn, so that the whole can be compared.
    monkeypatch.setattr(reading, "draw_curvature", lambda logits, _: (3 * logits).sin())
    gates = torch.ones(model.layers, model.heads, requires_grad=True)
    (found,) = torch.autograd.grad(fisher_score(model, batch, torch.Generator(), gates=gates), gates)
    states = model.logits(batch, states=True, gates=gates)[batch.tensors["attention_mask"].bool()]
    logits = vocabulary_logits(model.network, states)
    (wanted,) = torch.autograd.grad(((3 * logits).sin().detach() * logits).sum(), gates)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)


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
