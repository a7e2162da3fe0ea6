"""The speed of this package, against a plain forward pass and against the obvious way to write it.

Everything is measured side by side in one process and told as ratios: seconds of a shared machine say little. The
naive baseline does what a first implementation does: it pads every text to the longest input and loops over texts, once
for the signatures and once for the salience.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cahp import models
from cahp.data import sample
from cahp.head_statistics import Signatures
from cahp.models.devices import peak_bytes, reset_peak, synchronise
from cahp.models.head_model import Batch, HeadModel
from cahp.run.bench import load_data, match_labels
from cahp.run.document import machine
from cahp.run.settings import Settings, identify_model
from cahp.stages.clustering import cluster
from cahp.stages.salience import BATCH, examples_used, gate_gradients, salience
from cahp.stages.selection import select
from cahp.stages.signatures import Collector, collect
from cahp.stages.space import space
from cahp.values import HeadMask, Progress, Texts, silent
from cahp.words import number, size_of

STAGE = "bench"
_POOL = 32
#: What each ratio may be.
LIMITS = {"signatures_to_forward": ("at most", 1.05), "naive_to_selection": ("at least", 5.0)}


def measure(settings: Settings, *, limit: int = 640, rounds: int = 3, progress: Progress = silent) -> dict[str, Any]:
    """Time all contestants ``rounds`` times in turn on the first ``limit`` texts of the selection split.

    ``settings`` name model, data and device. ``peak_memory`` is what was in use at most before the baseline ran: on a
    GPU by this package, else by this whole process.
    """
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    model = models.load(identify_model(settings), device=settings.device)
    reset_peak(model.device)
    data = match_labels(load_data(settings, model.card), settings, model.card)
    texts, _ = sample(data.split(settings.select_split), limit, how="head")
    chosen: dict[str, HeadMask] = {}

    def finish(name: str, signatures: Signatures, values: np.ndarray[Any, Any]) -> None:
        chosen[name] = select(cluster(space(signatures)), values, budget=None).mask

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
    times: dict[str, list[float]] = {name: [] for name in contestants}
    total, done = (rounds + 1) * len(contestants), 0
    most: int | None = None
    for turn in range(rounds + 1):
        if turn == 1:
            # All of ours has run, and the baseline has not: what it takes is not ours, and a peak never falls.
            most = peak_bytes(model.device)
        for name, work in contestants.items():
            progress(STAGE, done, total)
            synchronise(model.device)
            start = perf_counter()
            # The first round warms up; the slow baseline needs none.
            if turn or name != "naive":
                work()
            synchronise(model.device)
            if turn:
                times[name].append(perf_counter() - start)
            done += 1
    progress(STAGE, total, total)
    ratios = {
        "signatures_to_forward": float(np.median(np.divide(times["signatures"], times["forward"]))),
        "naive_to_selection": float(np.median(np.divide(times["naive"], times["selection"]))),
    }
    return {
        "model": model.card.id,
        "texts": len(texts),
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "seconds": {name: float(np.median(seconds)) for name, seconds in times.items()},
        "ratios": ratios,
        "kept": {
            name: ratios[name] <= limit if side == "at most" else ratios[name] >= limit
            for name, (side, limit) in LIMITS.items()
        },
        "peak_memory": most,
        "same_heads": chosen["ours"].sha256 == chosen["naive"].sha256,
        "device": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else machine(),
        "load": busy,
    }


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


def words(results: Mapping[str, Any]) -> Iterator[str]:
    """A benchmark as a person reads it."""
    how = f"{results['threads']} threads, median of {results['rounds']} rounds in turn"
    yield f"{results['model']}, {results['texts']} texts, {how}"
    load = "" if results["load"] is None else f"; load {number(results['load'], 2)} before"
    yield f"on {results['device']}{load}"
    contestants = {
        "forward": ("forward pass", None, ""),
        "signatures": ("signatures", "signatures_to_forward", "a forward pass"),
        "selection": ("whole selection", None, ""),
        "naive": ("naive selection", "naive_to_selection", "the whole selection"),
    }
    for name, (title, ratio, other) in contestants.items():
        remark = ""
        if ratio is not None:
            side, limit = LIMITS[ratio]
            missed = "" if results["kept"][ratio] else ", missed"
            remark = f"{number(results['ratios'][ratio], 2)} x {other} ({side} {number(limit, 2)} x{missed})"
        yield f"  {title:<18}{results['seconds'][name]:>7.2f} s   {remark}".rstrip()
    if results["peak_memory"] is not None:
        yield f"  peak memory       {size_of(results['peak_memory']):>9}"
    yield f"  both keep {'the same heads' if results['same_heads'] else 'different heads (t-SNE amplifies rounding)'}"
