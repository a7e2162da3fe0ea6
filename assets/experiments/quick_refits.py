"""Measure how near quick refits of masks come to refits of the same masks.

At each of ten budgets, evenly spread, CAHP's mask and one that is drawn at random (seed: the budget) are measured after
each recovery in closed form: KL divergence from the full model, in nats. An interrupted measurement resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np

from cahp import open_bench
from cahp.api import bundled
from cahp.board.budget_sweep import BudgetTable, evaluate_mask
from cahp.files import json_text, plain_json, write_whole
from cahp.run.document import machine
from cahp.run.prune import choose
from cahp.store import Store
from cahp.terminal.progress import bars
from cahp.values import Progress, silent

#: The recoveries without training, the cheapest first.
CLOSED = ("none", "mean", "quick-refit", "refit")
MASKS = 20


def measure_masks(
    model: str, *, count: int = MASKS, store: Store | None = None, progress: Progress = silent
) -> list[dict[str, object]]:
    """Measure ``count`` masks of a bundled model, half of them CAHP's, after each recovery."""
    settings = bundled.RUNS[model]
    bench = open_bench(settings, store=store, progress=progress)
    run = bundled.read_run(model)
    assert run is not None
    table = BudgetTable(run.evidence().selections(settings))
    rows: list[dict[str, object]] = []
    for place in np.linspace(0, len(table.budgets) - 1, count // 2 + 2).astype(int)[1:-1]:
        budget = table.budgets[place]
        drawn = replace(bench, settings=replace(settings, method="random", seed=budget))
        masks = {"complementary": table.selection(budget).mask, "random": choose(drawn, budget).mask}
        for method, mask in masks.items():
            divergences = {recovery: evaluate_mask(bench, mask, recover=recovery)["kl"] for recovery in CLOSED}
            rows.append({"budget": budget, "method": method, "kept": mask.by_layer, "kl": divergences})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the masks of a model, and write them as JSON."""
    parser = argparse.ArgumentParser(prog="cahp experiment quick_refits", description=__doc__)
    parser.add_argument("model", choices=[*bundled.RUNS], help="built-in model with a bundled run")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    with bars(quiet=False, lines=True) as progress:
        rows = measure_masks(options.model, progress=progress)
    made = {"machine": machine(), "date": date.today().isoformat()}
    content = json_text({"made": made, "model": options.model, "masks": plain_json(rows)})
    write_whole(options.out.parent, {options.out.name: content.encode()})


if __name__ == "__main__":
    main()
