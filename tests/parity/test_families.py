"""The most common architectures, each on a tiny random model: batches, signatures, a whole run, what a mask changes."""

import copy
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
import zoo
from fakes import prune
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from cahp import load_pruned, models
from cahp.exports.checkpoints import write
from cahp.exports.form import Pruned
from cahp.exports.formats import model_form
from cahp.models import saving
from cahp.models.head_model import HeadModel
from cahp.outcomes import measure
from cahp.run.recoveries import cut_model
from cahp.stages.evaluation import evaluate
from cahp.stages.signatures import collect
from cahp.store import Store
from cahp.values import HeadMask, OptionError


@pytest.fixture(scope="module", params=fakes.rarely(sorted(fakes.SHAPES)))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HeadModel:
    folder = fakes.save_model(tmp_path_factory.mktemp("model"), request.param)
    return models.load(str(folder), device="cpu")


@pytest.mark.parametrize("pairs", [False, True])
def test_padding_and_batching_do_not_change_an_answer(model: HeadModel, pairs: bool) -> None:
    texts = fakes.sentences(20, pairs=pairs)
    together = evaluate(model, texts).scores
    alone = np.concatenate([evaluate(model, texts.take([row])).scores for row in range(len(texts))])
    assert np.allclose(together, alone, atol=1e-5)


def test_signatures_are_those_of_one_text_at_a_time(model: HeadModel) -> None:
    texts = fakes.sentences(18)
    found = collect(model, texts, pool_size=8)
    maps: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for row, label in enumerate(texts.labels):
        (batch,) = model.batches(model.tokenize(texts.take([row]).inputs))
        seen: list[torch.Tensor] = []
        model.logits(batch, probe=lambda _, weights, seen=seen: seen.append(weights))
        pooled = nn.functional.interpolate(torch.cat(seen, 1), size=(8, 8), mode="bilinear", align_corners=False)
        maps[int(label)].append(pooled[0].flatten(1).double().numpy())
    for label, each in maps.items():
        assert found.counts[label] == len(each)
        assert np.allclose(found.mean[:, label], np.mean(each, axis=0), atol=1e-6)
        assert np.allclose(found.variance[:, label], np.var(each, axis=0, ddof=1), atol=1e-6)


def test_a_run_keeps_the_requested_number_of_heads(model: HeadModel, tmp_path: Path) -> None:
    data = fakes.write_data(tmp_path / "data", train=60, validation=20, test=5)
    timed = {"latency": True, "latency_time": "0.05s"}
    settings = fakes.quick(model.card.folder, data, **timed, budget="5", recover="refit")
    if model.card.no_refit:
        with pytest.raises(OptionError, match="passes"):
            prune(settings, store=Store(tmp_path / "store"))
        settings = replace(settings, recover="distill")
    run = prune(settings, store=Store(tmp_path / "store"))
    assert run.mask.count == 5
    assert not run.mask.empty_layers
    assert run.document.outcomes["recovered"]["accuracy"].n == 20
    assert (run.document.distill is None) is (run.document.refit is not None)
    assert run.document.verified.mask_equals_surgery is True


TEXTS = fakes.sentences(60)
#: The module path of each layer's output projection.
OUTPUTS = {"bert": "bert.encoder.layer.{}.attention.output.dense", "llama": "model.layers.{}.self_attn.o_proj"}


def probabilities_of(network: nn.Module, folder: Path) -> np.ndarray:
    """The class probabilities of each text, one text at a time, in float64."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = [network(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in TEXTS.first]
    raised = np.exp(np.stack(logits).astype(np.float64))
    return raised / raised.sum(axis=1, keepdims=True)


def without_heads(network: nn.Module, path: str, mask: HeadMask) -> nn.Module:
    """A copy whose output projections have zero columns where a dropped head enters."""
    masked = copy.deepcopy(network)
    for layer, row in enumerate(mask.keep):
        weight = masked.get_submodule(path.format(layer)).weight
        size = weight.shape[1] // mask.heads
        for head in np.flatnonzero(~row):
            weight.data[:, head * size : (head + 1) * size] = 0.0
    return masked


@pytest.mark.parametrize("family", OUTPUTS)
def test_divergence_agreement_and_intervals_are_those_of_another_masking(family: str, tmp_path: Path) -> None:
    folder = fakes.save_model(tmp_path, family)
    model = models.load(str(folder), device="cpu")
    network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    wanted, full = probabilities_of(network, folder), evaluate(model, TEXTS)
    random = np.random.default_rng(0)
    for _ in range(6):
        mask = HeadMask(random.random((model.layers, model.heads)) < random.uniform(0.2, 0.9))
        ours = measure(evaluate(model, TEXTS, mask=mask), full=full)
        theirs = probabilities_of(without_heads(network, OUTPUTS[family], mask), folder)
        apart = (wanted * np.log(wanted / theirs)).sum(axis=1)
        same = wanted.argmax(axis=1) == theirs.argmax(axis=1)
        assert ours["kl"].value == pytest.approx(apart.mean(), abs=1e-4)
        assert ours["agreement"].value == same.mean()
        drawn = np.random.default_rng(1).integers(len(apart), size=(20_000, len(apart)))
        ends = np.percentile(apart[drawn].mean(axis=1), [2.5, 97.5])
        assert (ours["kl"].low, ours["kl"].high) == pytest.approx(ends, rel=0.1, abs=1e-4)
        assert ours["agreement"].low < same.mean() < ours["agreement"].high or same.mean() in (0, 1)


QUICK = {"epochs": 1, "batch": 16, "learning_rate": 1e-3}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["esm", "gemma2", "mistral", "qwen3", pytest.param("t5", marks=pytest.mark.nightly)])
def test_a_matched_model_is_recovered_in_every_way(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.disable_progress_bar()
    model = models.load(str(zoo.save(tmp_path / "model", kind, seed=3)), device="cpu")
    assert model.family.matched is not None
    keep = np.zeros((model.layers, model.heads), dtype=np.bool_)
    keep[0, -1] = keep[1, :2] = True
    mask, store = HeadMask(keep), Store(tmp_path / "store")
    before = [parameter.clone() for parameter in model.network.parameters()]
    made = fakes.recoveries(model.card, TEXTS, store, model=model)
    recovered = {
        "mean": made.refit(mask, "mean"),
        "quick-refit": made.refit(mask, "quick-refit"),
        "refit": made.refit(mask),
        "distill": made.distill(mask, schedule=QUICK),
        "finetune": made.finetune(mask, schedule=QUICK),
    }
    assert all(map(torch.equal, before, model.network.parameters()))
    # What is found again is what was made, and what is taken home answers so; one goes the whole way to a new process.
    again = fakes.recoveries(model.card, TEXTS, store, model=model)
    if kind != "t5":
        monkeypatch.setattr(saving, "in_new_process", fakes.in_this_process)
    (batch,) = model.batches(model.tokenize(TEXTS.inputs[:8]))
    answers = [model.logits(batch)]
    for how, one in recovered.items():
        found = again.recover(mask, how, schedule=QUICK)
        assert found.sha256 == one.sha256
        pruned = cut_model(model, mask, one)
        if how == "finetune" or kind != "t5":
            folder = tmp_path / how
            results = write(model_form("compact"), folder, Pruned(model, pruned, mask, TEXTS.inputs[:8]))
            assert results["difference"] <= 1e-5
            with torch.no_grad():
                network = load_pruned(folder)
                assert torch.allclose(network(**batch.tensors).logits, pruned.logits(batch), atol=1e-5)
        answers.append(pruned.logits(batch))
    # Weights of a training are those of the network that was trained.
    assert not torch.allclose(answers[-1], answers[0])
    assert not torch.allclose(answers[-1], cut_model(model, mask).logits(batch))
