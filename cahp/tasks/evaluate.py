"""What a model answers under a mask, and what it costs when it is cut to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cahp import data, models
from cahp.export.masks import kept_heads, read_for
from cahp.run.bench import check_classifier, label_reading, labelling, load_data, match_labels
from cahp.run.measurements import Workbench
from cahp.run.prune import cost_document, outcomes, split_document
from cahp.run.seal import TestSeal
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import Progress, silent


def evaluate(
    settings: Settings,
    *,
    mask: Path | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Answers on ``eval_split`` of the full model and under a mask: metrics and differences as in ``run.json``."""
    card = models.identify(settings.model)
    check_classifier(settings, card)
    keep = None if mask is None else read_for(card, mask)[0]
    raw = load_data(settings, card)
    dataset = match_labels(raw, settings, card)
    texts, notices = data.sample(
        dataset.split(settings.eval_split), settings.eval_limit, how=settings.sample, seed=settings.seed
    )
    store = store or Store()
    seal = TestSeal(card, dataset, store)
    bench = Workbench(card, None, store=store, device=settings.device, progress=progress)
    found = outcomes(bench, texts, keep, seed=settings.seed)
    return {
        "model": card.id,
        "data": {"id": dataset.id, "split": settings.eval_split, **split_document(texts)},
        "kept": kept_heads(keep),
        **found,
        "test_opened": seal.open() if settings.eval_split == "test" else seal.opened,
        "notices": [*dataset.notices, *notices, *labelling(bench.evaluate(texts), label_reading(raw, dataset))],
    }


def latency(
    model: str,
    mask: Path,
    *,
    batch: int = 8,
    length: int = 64,
    repeats: int = 30,
    device: str = "auto",
    store: Store | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Cost of the full model and of the model cut to a mask, as in ``run.json``."""
    card = models.identify(model)
    keep = read_for(card, mask)[0]
    bench = Workbench(card, None, store=store or Store(), device=device, progress=progress)
    costs = bench.costs(keep, batch=batch, length=length, repeats=repeats)
    return {"model": card.id, "kept": kept_heads(keep), **cost_document(costs)}
