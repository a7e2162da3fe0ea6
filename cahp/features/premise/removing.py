"""KL divergences of texts without one head, and without two, each removal cached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.methods.ablation import calls_without, divide
from cahp.run.bench import Bench
from cahp.tasks.answers import Evaluation, sum_by_unit
from cahp.tasks.texts import Texts
from cahp.values import Floats, Ints

STAGE = "pairs"


def removal_divergences(bench: Bench, removals: Sequence[tuple[int | None, Ints]]) -> list[NDArray[np.float64]]:
    """KL divergences ``(len(others), n)`` of texts without ``first`` and each of ``others``, for each removal.

    Those of a language model are sums over the tokens of documents; see ``cahp.tasks.answers.sum_by_unit``.
    """
    import torch

    texts = choose_texts(bench)
    progress = bench.evidence.progress
    full = bench.measurements.evaluate(texts)
    total = len(texts) * sum(len(others) for _, others in removals)
    done = 0

    @cache
    def prepare() -> tuple[Any, ...]:
        model = bench.model
        return model, divide(model), model.batches(model.tokenize(texts.inputs))

    def remove(first: int | None, others: Ints) -> NDArray[np.float64]:
        model, tails, batches = prepare()
        reader = bench.measurements.reader(texts)
        at = done
        keep = np.arange(model.layers * model.heads).reshape(model.layers, model.heads) != first
        scores = np.zeros((len(others), *full.scores.shape), dtype=np.float32)
        with torch.inference_mode():
            for batch in batches:
                calls = calls_without(model, tails, batch, model.gates(keep), others)
                for place, (_, rest, call) in enumerate(calls):
                    progress(STAGE, at, total)
                    at += len(batch)
                    scores[place, batch.rows] = reader.read(rest, batch, **call).cpu().numpy()
        divergences, _ = group_divergences(full, [replace(full, scores=own).divergences(full) for own in scores])
        return divergences

    tables: list[NDArray[np.float64]] = []
    for first, others in removals:
        name = f"KL divergence of {texts.sha256} without {first} and each of {others.tolist()}"
        tables.append(bench.evidence.cached(name, partial(remove, first, others)))
        done += len(texts) * len(others)
    return tables


def choose_texts(bench: Bench) -> Texts:
    """Return the evaluation texts; of a language model without the windows of repeated tokens."""
    texts = bench.evaluation
    return texts.take(texts.text_rows)


def group_divergences(
    full: Evaluation, rows: Sequence[Floats]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """``rows`` of texts, or of tokens summed over the documents of a language model, and the sizes of these."""
    if full.units is None:
        return np.array(rows), None
    return sum_by_unit(np.array(rows), full.units, np.ones(len(full.units)))
