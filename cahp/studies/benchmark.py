"""How fast the package is, against a plain forward pass and against the obvious way to write it.

Everything is measured side by side in one process and told as ratios: seconds of a shared machine say little. The
naive baseline does what a first implementation does: it pads every text to 128 tokens and loops over texts, once for
the signatures and once for the salience.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cahp import models
from cahp.data import sample
from cahp.head_statistics import Signatures
from cahp.models.devices import peak_bytes, synchronise
from cahp.models.head_model import Batch, HeadModel
from cahp.run.bench import read_data
from cahp.run.settings import Settings, identify_model
from cahp.stages.clustering import cluster
from cahp.stages.salience import BATCH, examples_used, gate_gradients, salience
from cahp.stages.selection import select
from cahp.stages.signatures import Collector, collect
from cahp.stages.space import space
from cahp.values import HeadMask, Progress, Texts, silent

STAGE = "bench"
_POOL = 32


def measure(
    settings: Settings,
    *,
    model: HeadModel | None = None,
    limit: int = 640,
    rounds: int = 3,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Time all contestants ``rounds`` times in turn on the first ``limit`` texts of the selection split.

    ``model`` is that of the settings, where it was read before. ``peak_memory`` is what was in use at most before the
    baseline ran: of a GPU since ``devices.reset_peak``, else of this whole process.
    """
    model = model or models.load(identify_model(settings), device=settings.device)
    texts, _ = sample(read_data(settings, model.card).split(settings.select_split), limit, how="head")
    chosen: dict[str, HeadMask] = {}

    def finish(name: str, signatures: Signatures, values: np.ndarray[Any, Any]) -> None:
        clustering = cluster(space(signatures))
        chosen[name] = select(clustering, values, budget=None).mask

    def ours() -> None:
        collector = Collector(model, classes=len(texts.classes))
        gradients = gate_gradients(model, texts, watch=collector.watch)
        rest = np.arange(examples_used(len(texts)), len(texts))
        finish("ours", collect(model, texts, rows=rest, into=collector), salience(gradients))

    contestants: dict[str, Callable[[], object]] = {
        "forward": lambda: [model.logits(batch) for batch in model.batches(model.tokenize(texts.inputs))],
        "signatures": lambda: collect(model, texts),
        "selection": ours,
        "naive": lambda: finish("naive", naive_signatures(model, texts), naive_salience(model, texts)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    total, done = (rounds + 1) * len(contestants), 0
    most: int | None = None
    for round_ in range(rounds + 1):
        if round_ == 1:
            # All of ours has run, and the baseline has not: what it takes is not ours, and a peak never falls.
            most = peak_bytes(model.device)
        for name, work in contestants.items():
            progress(STAGE, done, total)
            synchronise(model.device)
            start = perf_counter()
            # The first round warms up; the slow baseline needs none.
            if round_ or name != "naive":
                work()
            synchronise(model.device)
            if round_:
                seconds[name].append(perf_counter() - start)
            done += 1
    progress(STAGE, total, total)
    return {
        "model": model.card.id,
        "texts": len(texts),
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "seconds": {name: float(np.median(times)) for name, times in seconds.items()},
        "ratios": {
            "signatures_to_forward": _ratio(seconds["signatures"], seconds["forward"]),
            "naive_to_selection": _ratio(seconds["naive"], seconds["selection"]),
        },
        "peak_memory": most,
        "same_heads": chosen["ours"].sha256 == chosen["naive"].sha256,
    }


def _ratio(above: list[float], below: list[float]) -> float:
    return float(np.median(np.array(above) / np.array(below)))


def words(found: Mapping[str, Any]) -> Iterator[str]:
    """A benchmark as a person reads it."""
    seconds, ratios = found["seconds"], found["ratios"]
    how = f"{found['threads']} threads, median of {found['rounds']} rounds in turn"
    yield f"{found['model']}, {found['texts']} texts, {how}"
    rows = {
        "forward": ("forward pass", ""),
        "signatures": ("signatures", f"{ratios['signatures_to_forward']:.2f} x a forward pass"),
        "selection": ("whole selection", ""),
        "naive": ("naive selection", f"{ratios['naive_to_selection']:.1f} x the whole selection"),
    }
    for name, (title, remark) in rows.items():
        yield f"  {title:<18}{seconds[name]:>7.2f} s   {remark}".rstrip()
    yield f"  both keep {'the same heads' if found['same_heads'] else 'different heads (t-SNE amplifies rounding)'}"


def _padded(model: HeadModel, texts: Texts) -> Iterator[Batch]:
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
    mean, m2 = np.zeros((2, heads, classes, _POOL**2))
    for batch in _padded(model, texts):
        maps: list[Tensor] = []
        model.logits(batch, probe=lambda _, weights, maps=maps: maps.append(weights))  # type: ignore[misc]
        for position, row in enumerate(batch.rows):
            length, label = int(batch.lengths[position]), texts.labels[row]
            cut = torch.cat([layer[position, :, :length, :length] for layer in maps])
            pooled = nn.functional.interpolate(cut[None], size=(_POOL, _POOL), mode="bilinear", align_corners=False)
            cells = pooled[0].flatten(1).cpu().double().numpy()
            counts[label] += 1
            delta = cells - mean[:, label]
            mean[:, label] += delta / counts[label]
            m2[:, label] += delta * (cells - mean[:, label])
    return Signatures(counts, mean, m2, model.layers, model.heads)


def naive_salience(model: HeadModel, texts: Texts) -> np.ndarray[Any, Any]:
    """Salience by one backward pass of each padded batch's mean loss."""
    gradients = []
    for batch in _padded(model, texts.take(range(examples_used(len(texts))))):
        gates = torch.ones(model.layers, model.heads, device=model.device, requires_grad=True)
        labels = torch.tensor(texts.labels[batch.rows], device=model.device)
        loss = nn.functional.cross_entropy(model.logits(batch, gates=gates), labels)
        (gradient,) = torch.autograd.grad(loss, gates)
        gradients.append(gradient.abs().cpu().double().numpy())
    scores = np.mean(gradients, axis=0)
    return np.asarray((scores - scores.min()) / (scores.max() - scores.min()))
