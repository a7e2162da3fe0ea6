"""KL divergence, agreement and their intervals, recomputed with another masking and another arithmetic."""

from __future__ import annotations

import copy
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cahp import models
from cahp.outcomes import measure
from cahp.stages.evaluation import evaluate
from cahp.values import HeadMask

TEXTS = fakes.sentences(60)
#: The module path of each layer's output projection.
OUTPUTS = {"bert": "bert.encoder.layer.{}.attention.output.dense", "llama": "model.layers.{}.self_attn.o_proj"}


def probabilities(network: nn.Module, folder: Path) -> np.ndarray:
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
    wanted, full = probabilities(network, folder), evaluate(model, TEXTS)
    random = np.random.default_rng(0)
    for _ in range(6):
        mask = HeadMask(random.random((model.layers, model.heads)) < random.uniform(0.2, 0.9))
        ours = measure(evaluate(model, TEXTS, mask=mask), full=full)
        theirs = probabilities(without_heads(network, OUTPUTS[family], mask), folder)
        apart = (wanted * np.log(wanted / theirs)).sum(axis=1)
        same = wanted.argmax(axis=1) == theirs.argmax(axis=1)
        assert ours["kl"].value == pytest.approx(apart.mean(), abs=1e-4)
        assert ours["agreement"].value == same.mean()
        drawn = np.random.default_rng(1).integers(len(apart), size=(20_000, len(apart)))
        ends = np.percentile(apart[drawn].mean(axis=1), [2.5, 97.5])
        assert (ours["kl"].low, ours["kl"].high) == pytest.approx(ends, rel=0.1, abs=1e-4)
        assert ours["agreement"].low < same.mean() < ours["agreement"].high or same.mean() in (0, 1)
