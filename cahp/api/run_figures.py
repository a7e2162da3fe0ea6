"""The figures of a run: what each shows, and what has to be measured for it first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cahp.api.drawing import titled
from cahp.figures import curves
from cahp.figures.head_grid import grid_figure
from cahp.figures.space import space_figure
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.prune import method_of
from cahp.studies.budget_sweep import Row, Speed
from cahp.studies.filling import measure_mask
from cahp.values import BudgetError, HeadMask, Progress

if TYPE_CHECKING:
    from cahp.run.prune import Run

#: At how many budgets a curve is measured unless it is told.
_POINTS = {"accuracy": 9, "latency": 5}


def heads(run: Run, *, dark: bool) -> Any:
    """Which heads stay, coloured and lettered by cluster; the most salient of each cluster has no mark of its own."""
    figure = grid_figure(run.mask, run.arrays["labels"], dark=dark)
    return titled(figure, f"{run.mask.count} of {run.mask.keep.size} heads stay", dark=dark)


def space(run: Run, *, dark: bool) -> Any:
    """Where the heads lie in the plane of the projection."""
    labels = run.arrays["labels"]
    salience = run.arrays["salience"].reshape(run.mask.keep.shape)
    figure = space_figure(run.arrays["embedding"], salience, labels, run.mask, run.document.settings, dark=dark)
    clusters = len(np.unique(labels))
    return titled(figure, f"{run.mask.count} survivors among {clusters} clusters of heads", dark=dark)


def silhouette(run: Run, *, dark: bool) -> Any:
    """How well the heads fall into k clusters."""
    knee = run.document.knee
    figure = curves.silhouette(run.arrays["ks"], run.arrays["mss"], knee, dark=dark)
    return titled(
        figure, "The curve has no knee" if knee is None else f"The curve's knee is at {knee} clusters", dark=dark
    )


def by_budget(
    run: Run,
    bench: Bench,
    what: Literal["accuracy", "latency"],
    *,
    budgets: Sequence[int] | None,
    progress: Progress,
    dark: bool,
) -> Any:
    """Accuracy, or time, at some budgets; what was not measured before is measured now, and kept.

    Raises:
        BudgetError: If a budget is impossible.
    """
    settings = bench.settings
    total = run.mask.keep.size
    fewest = max(1, settings.min_per_layer * run.mask.layers)
    wanted = _spread(fewest, total, run.mask.count, _POINTS[what]) if budgets is None else sorted(set(budgets))
    for budget in wanted:
        if not fewest <= budget <= total:
            raise BudgetError(f"a budget of {budget} heads is impossible; budgets lie in {fewest}..{total}")
    recovery = RECOVERIES[settings.recover]
    recovery = recovery if recovery.swept and what == "accuracy" else NONE
    rows = []
    for done, budget in enumerate(wanted):
        progress("table", done, len(wanted))
        mask = _mask(bench, budget)
        if what == "accuracy":
            rows.append(Row(budget, None, measure_mask(bench, mask, recover=recovery.name), None, None))
        elif not mask.empty_layers and budget < total:
            costs = bench.measurements.costs(mask, length=bench.length, seconds=bench.latency_seconds)
            rows.append(Row(budget, None, None, None, Speed.of(costs.ratio, costs.full, costs.pruned)))
    progress("table", len(wanted), len(wanted))
    if what == "latency":
        return titled(curves.latency_by_budget(rows, dark=dark), "What fewer heads save in time", dark=dark)
    title = f"Accuracy on {settings.eval_split} ({recovery.result}), measured at {len(rows)} budgets"
    return titled(curves.accuracy_by_budget(rows, dark=dark), title, dark=dark)


def _spread(fewest: int, total: int, own: int, count: int) -> list[int]:
    """So many budgets, evenly, both ends and the run's own among them."""
    spread = np.linspace(fewest, total, min(count, total - fewest + 1)).round().astype(int).tolist()
    return sorted({*spread, max(own, fewest)})


def _mask(bench: Bench, budget: int) -> HeadMask:
    """What the run's method keeps at a budget."""
    card, settings = bench.card, bench.settings
    if budget == card.layers * card.heads:
        return HeadMask.full(card.layers, card.heads)
    choice = method_of(settings).choose(bench.evidence, budget=budget, min_per_layer=settings.min_per_layer)
    return choice.mask
