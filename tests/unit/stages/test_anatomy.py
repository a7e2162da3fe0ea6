"""Heads are taken apart as NumPy would do it, and removed as gates and fills do it."""

from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.stages.anatomy import PREDICTORS, Dissection, dissect
from cahp.values import Floats

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = fakes.sentences(40)
HELD_OUT = fakes.sentences(12, seed=3)
LAYER = 1


@pytest.fixture(scope="module", params=["bert", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    """An encoder, and a causal model whose values are narrower than its states."""
    return models.load(str(fakes.save_model(tmp_path_factory.mktemp("model"), request.param)), device="cpu")


@pytest.fixture(scope="module")
def dissected(model: HeadModel) -> Dissection:
    return dissect(model, TEXTS.inputs, HELD_OUT)


def mix(states: Floats, values: Floats, *, causal: bool) -> Floats:
    """The words of one text, by their definition."""
    none = np.zeros((1, states.shape[1]))
    columns = [states, np.concatenate([none, states[:-1]])]
    if not causal:
        columns.append(np.concatenate([states[1:], none]))
    places = np.arange(len(states))
    distances = places[:, None] - places
    for span in (8, 32):
        rest = 1 - 1 / span
        weights = rest ** np.abs(distances) * (1 - rest) / (1 + rest)
        if causal:
            weights = np.where(distances < 0, 0, rest**distances / span)
        columns.append(weights @ values)
    means = np.cumsum(values, axis=0) / (1 + places[:, None])
    if not causal:
        means[:] = means[-1]
    return np.concatenate([*columns, means], axis=1)


def read(model: HeadModel, texts: object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The context vectors and the words of all tokens at ``LAYER``, text by text."""
    contexts, words = [], []
    for batch in model.batches(model.tokenize(texts.inputs), size=1):  # type: ignore[attr-defined]
        seen: dict[tuple[str, int], Floats] = {}
        model.logits(batch, tap=lambda *where, seen=seen: seen.update({where[:2]: where[2][0].double().numpy()}))
        states = values = seen["attention", LAYER]
        weight = model.head_weights(LAYER)[2].flatten(0, 1).double().numpy()
        if len(weight) < weight.shape[1]:
            values = states @ weight.T
        contexts.append(seen["output", LAYER])
        words.append(mix(states, values, causal=model.family.causal))
    return np.concatenate(contexts), np.concatenate(words)


def test_what_is_left_is_that_of_ridge_regressions_on_all_tokens(model: HeadModel, dissected: Dissection) -> None:
    contexts, words = read(model, TEXTS)
    wanted, known = read(model, HELD_OUT)
    weight = model.projection(LAYER).weight.double().numpy()
    hidden = model.card.hidden
    size = contexts.shape[1] // model.heads
    around = 2 if model.family.causal else 3

    def leave(head: int, regressors: Floats, given: Floats, ridges: Floats) -> float:
        own = slice(head * size, (head + 1) * size)
        centred = np.concatenate([regressors - regressors.mean(0), np.diag(np.sqrt(0.1 * len(contexts) * ridges))])
        targets = np.concatenate([contexts[:, own] - contexts[:, own].mean(0), np.zeros((len(ridges), size))])
        solved = np.linalg.lstsq(centred, targets, rcond=None)[0]
        left = wanted[:, own] - contexts[:, own].mean(0) - (given - regressors.mean(0)) @ solved
        return float(((left @ weight[:, own].T) ** 2).sum())

    for head in range(model.heads):
        others = np.arange(contexts.shape[1]) // size != head
        ridges = np.full(others.sum(), contexts.var(0).mean())
        expected = {"zero": float(((wanted[:, ~others] @ weight[:, ~others].T) ** 2).sum())}
        expected["mean"] = leave(head, contexts[:, :0], wanted[:, :0], np.zeros(0))
        for name, end in (("token", hidden), ("neighbours", around * hidden), ("words", None)):
            expected[name] = leave(head, words[:, :end], known[:, :end], words[:, :end].var(0))
        expected["heads"] = leave(head, contexts[:, others], wanted[:, others], ridges)
        both, given = np.hstack([contexts[:, others], words]), np.hstack([wanted[:, others], known])
        expected["both"] = leave(head, both, given, np.concatenate([ridges, words.var(0)]))
        for name in PREDICTORS:
            found = dissected.energies[name][LAYER, head]
            assert found / expected["zero"] == pytest.approx(expected[name] / expected["zero"], abs=1e-6), name
    assert dissected.learned == len(contexts)
    assert dissected.held_out == len(wanted)


def test_costs_are_those_of_gates_and_of_the_mean_in_their_place(model: HeadModel, dissected: Dissection) -> None:
    mean = torch.tensor(read(model, TEXTS)[0].mean(0), dtype=torch.float32)
    (batch,) = model.batches(model.tokenize(HELD_OUT.inputs))
    full = model.logits(batch).double().log_softmax(-1)
    for head in range(model.heads):
        keep = np.ones((model.layers, model.heads))
        keep[LAYER, head] = 0
        for name, fill in (("zero", None), ("mean", mean.expand(model.layers, -1))):
            removed = model.logits(batch, gates=model.gates(keep), fill=fill).double().log_softmax(-1)
            divergences = (full.exp() * (full - removed)).sum(-1).numpy()
            np.testing.assert_allclose(dissected.divergences[name][LAYER, head][batch.rows], divergences, atol=1e-6)


def test_batches_padding_and_a_model_that_runs_as_a_whole_change_nothing(
    model: HeadModel, dissected: Dissection, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.with_network(model.network, family=replace(model.family, tails=False))
    if model.family.causal:
        # An encoder with absolute positions counts padding on the left.
        monkeypatch.setattr(model.tokenizer, "padding_side", "left")
    for other, tokens in ((model, 10_000), (model, 1), (whole, 50)):
        monkeypatch.setattr("cahp.models.head_model.batch_size", lambda _, tokens=tokens: (tokens, 64))
        again = dissect(other, TEXTS.inputs, HELD_OUT)
        for name, energies in dissected.energies.items():
            np.testing.assert_allclose(again.energies[name], energies, rtol=1e-4)
        for name, divergences in dissected.divergences.items():
            np.testing.assert_allclose(again.divergences[name], divergences, atol=1e-5)


def test_another_head_that_does_the_same_covers_wholly(tmp_path: Path) -> None:
    network = models.load(str(fakes.save_model(tmp_path, "bert")), device="cpu")
    for path in network.family.inputs:
        module = network.layer_modules[LAYER].get_submodule(path)
        for tensor in (module.weight, module.bias):
            first, second, *_ = tensor.chunk(network.heads)
            second.data.copy_(first.data)  # type: ignore[union-attr]
    found = dissect(network, fakes.sentences(150).inputs, HELD_OUT, ridge=1e-6)
    costs = {name: values[LAYER].mean(-1) for name, values in found.divergences.items()}
    assert (costs["both"][:2] < 1e-3 * costs["mean"][:2]).all()
    assert (costs["words"][:2] > 0.01 * costs["mean"][:2]).all()
    assert (found.energies["heads"][LAYER, :2] < 1e-4 * found.energies["zero"][LAYER, :2]).all()
