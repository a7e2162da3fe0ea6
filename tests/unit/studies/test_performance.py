"""The benchmark, and a plain implementation that computes the same signatures and salience."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import torch
from torch import Tensor, nn

from cahp import models
from cahp.head_statistics import Signatures
from cahp.models.head_model import Batch, HeadModel
from cahp.run.settings import Settings
from cahp.stages.salience import BATCH, examples_used, gate_gradients, salience
from cahp.stages.signatures import collect
from cahp.studies import performance
from cahp.studies.performance import words
from cahp.values import Texts

POOL = 32


def padded(model: HeadModel, texts: Texts) -> Iterator[Batch]:
    """Batches of 32 in data set order, every text padded to the longest that the model takes."""
    tokens = model.tokenize(texts.inputs)
    for start in range(0, len(tokens), BATCH):
        part = tokens[start : start + BATCH]
        padded = model.tokenizer.pad(
            {name: [entry[name] for entry in part] for name in part[0]},
            padding="max_length",
            max_length=model.max_length,
            return_tensors="pt",
        )
        lengths = torch.tensor([len(entry["input_ids"]) for entry in part])
        tensors = {name: tensor.to(model.device) for name, tensor in padded.items()}
        yield Batch(np.arange(start, start + len(part)), lengths, tensors)


def naive_signatures(model: HeadModel, texts: Texts) -> Signatures:
    """Signatures by a loop over texts: every map is cut, resized and added to its class."""
    heads, classes = model.layers * model.heads, len(texts.classes)
    counts = np.zeros(classes, dtype=np.int64)
    mean, m2 = np.zeros((2, heads, classes, POOL**2))
    for batch in padded(model, texts):
        maps: list[Tensor] = []
        model.logits(batch, probe=lambda _, weights, maps=maps: maps.append(weights))  # type: ignore[misc]
        for position, row in enumerate(batch.rows):
            length, label = int(batch.lengths[position]), texts.labels[row]
            cut = torch.cat([layer[position, :, :length, :length] for layer in maps])
            pooled = nn.functional.interpolate(cut[None], size=(POOL, POOL), mode="bilinear", align_corners=False)
            cells = pooled[0].flatten(1).cpu().double().numpy()
            counts[label] += 1
            delta = cells - mean[:, label]
            mean[:, label] += delta / counts[label]
            m2[:, label] += delta * (cells - mean[:, label])
    return Signatures(counts, mean, m2, model.layers, model.heads)


def naive_salience(model: HeadModel, texts: Texts) -> np.ndarray[Any, Any]:
    """Salience by one backward pass of each padded batch's mean loss."""
    gradients = []
    for batch in padded(model, texts.take(range(examples_used(texts)))):
        gates = torch.ones(model.layers, model.heads, device=model.device, requires_grad=True)
        labels = torch.tensor(texts.labels[batch.rows], device=model.device)
        loss = nn.functional.cross_entropy(model.logits(batch, gates=gates), labels)
        (gradient,) = torch.autograd.grad(loss, gates)
        gradients.append(gradient.abs().cpu().double().numpy())
    scores = np.mean(gradients, axis=0)
    return np.asarray((scores - scores.min()) / (scores.max() - scores.min()))


def test_the_table_says_where_and_under_which_load_and_which_limits_are_not_kept() -> None:
    results: dict[str, Any] = {
        "model": "minilm-bbc",
        "texts": 640,
        "threads": 2,
        "rounds": 3,
        "seconds": dict.fromkeys(("forward", "signatures", "selection"), 1.0),
        "ratios": {"signatures": 1.0, "selection": 1.5},
        "kept": True,
        "peak_memory": 1_500_000_000,
        "device": "Somebody's processor, 2 cores",
        "load": 0.25,
    }
    lines = list(words(results))
    assert "on Somebody's processor, 2 cores; load 0.25 before" in lines
    assert any(line.endswith("1.00 x a forward pass (at most 1.05 x)") for line in lines)
    assert any(line.endswith("1.50 x a forward pass") for line in lines)
    assert any(line.endswith("1.5 GB") for line in lines)
    assert "peak" not in "".join(words({**results, "peak_memory": None}))
    assert any(line.endswith("(at most 1.05 x, missed)") for line in words({**results, "kept": False}))


def test_a_plain_implementation_finds_the_same_signatures_and_salience(tmp_path: Path) -> None:
    model, texts = models.load(str(fakes.save_model(tmp_path)), device="cpu"), fakes.sentences(40)
    ours, naive = collect(model, texts), naive_signatures(model, texts)
    assert np.array_equal(ours.counts, naive.counts)
    np.testing.assert_allclose(ours.mean, naive.mean, atol=1e-6)
    np.testing.assert_allclose(ours.variance, naive.variance, atol=1e-6)
    values = salience(gate_gradients(model, texts)).ravel()
    np.testing.assert_allclose(values, naive_salience(model, texts).ravel(), atol=1e-5)


def test_each_contestant_runs_once_a_round_and_once_to_warm_up(tmp_path: Path) -> None:
    place, data = fakes.save_model(tmp_path / "tiny"), fakes.write_data(tmp_path / "data")
    seen: list[tuple[str, int, int]] = []
    results = performance.measure(
        Settings(model=str(place), data=str(data), device="cpu"),
        limit=32,
        rounds=1,
        progress=lambda name, done, total: seen.append((name, done, total)),
    )
    assert (results["texts"], results["rounds"]) == (32, 1)
    assert seen == [("bench", done, 6) for done in range(7)]
    assert results["ratios"]["selection"] == results["seconds"]["selection"] / results["seconds"]["forward"]
