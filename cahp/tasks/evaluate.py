"""What a model answers under a mask, and what it costs when it is cut to one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cahp import data, models
from cahp.cards import Prompt
from cahp.costs import LATENCY_SECONDS
from cahp.export.masks import kept_heads, read_for
from cahp.run.bench import check_classifier, label_reading, labelling, load_data, match_labels, prompt_notices
from cahp.run.document import SplitRecord, cost_record, outcome_records, ratio_record
from cahp.run.measurements import Measurements
from cahp.run.prune import measure_outcomes
from cahp.run.resources import Resources
from cahp.run.seal import TestSeal
from cahp.run.settings import Settings, choose_precisions, identify_model, precision_notices
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
    card = identify_model(settings)
    check_classifier(settings, card)
    keep = None if mask is None else read_for(card, mask)[0]
    raw = load_data(settings, card)
    dataset = match_labels(raw, settings, card)
    texts, notices = data.sample(
        dataset.split(settings.eval_split), settings.eval_limit, how=settings.sample, seed=settings.seed
    )
    store = store or Store()
    seal = TestSeal(card, dataset, store)
    numbers = choose_precisions(settings)
    measurements = Measurements(
        Resources(card, store=store, device=settings.device, precisions=numbers, progress=progress)
    )
    outcomes = measure_outcomes(measurements, texts, keep, seed=settings.seed)
    return {
        "model": card.id,
        "data": {"id": dataset.id, **vars(SplitRecord.of(settings.eval_split, texts))},
        "kept": kept_heads(keep),
        **outcome_records(outcomes),
        "precision": numbers.evaluation,
        "test_opened": seal.open() if settings.eval_split == "test" else seal.opened,
        "notices": [
            *precision_notices(replace(numbers, signatures="float32")),
            *prompt_notices(card),
            *dataset.notices,
            *notices,
            *labelling(measurements.evaluate(texts), label_reading(raw, dataset)),
        ],
    }


def latency(
    model: str,
    mask: Path,
    *,
    batch: int = 8,
    length: int = 64,
    seconds: float = LATENCY_SECONDS,
    repeats: int | None = None,
    device: str = "auto",
    prompt: Prompt | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Cost of the full model and of the model cut to a mask, as in ``run.json``.

    Measured until it is known or ``seconds`` are over, or for so many ``repeats``.
    """
    card = models.identify(model, prompt=prompt)
    keep = read_for(card, mask)[0]
    measurements = Measurements(Resources(card, store=store or Store(), device=device, progress=progress))
    costs = measurements.costs(keep, batch=batch, length=length, seconds=seconds, repeats=repeats)
    cost, ratio, share = cost_record(costs)
    found = {"cost": cost, "latency_ratio": ratio_record(ratio), "attention_share": share}
    return {"model": card.id, "kept": kept_heads(keep), **found, "notices": list(costs.notices)}
