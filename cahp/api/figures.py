"""Figures for Python: the figures of the explorer's pages with titles, and the measurements they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cahp.figures import curves
from cahp.figures.head_grid import grid_figure
from cahp.figures.labels import label
from cahp.figures.space import space_figure
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.prune import method_of
from cahp.studies.budget_sweep import Row, Speed
from cahp.studies.filling import evaluate_mask
from cahp.values import BudgetError, HeadMask, OptionError, Progress

if TYPE_CHECKING:
    from cahp.run.prune import Run

#: Pixels of a title.
_TITLE = 34


def check_figure(name: str, names: Iterable[str]) -> None:
    """Check that a figure of this name exists and that Plotly is installed.

    Raises:
        OptionError: If not; it lists the names, or says what to install.
    """
    known = tuple(names)
    if name not in known:
        raise OptionError(f"there is no figure {name!r}; choose one of {', '.join(known)}")
    if find_spec("plotly") is None:
        raise OptionError('figures need plotly; install it with pip install "cahp-explorer[notebook]"')


def add_title(figure: Any, title: str, *, dark: bool) -> Any:
    """Put the title of a page's figure into the figure."""
    top = (figure.layout.margin.t or 0) + _TITLE
    figure.update_layout(
        template="plotly_dark" if dark else "plotly_white",
        title={
            "text": label(title, limit=160),
            "x": 0.01,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8},
        },
        margin={"t": top},
        height=None if figure.layout.height is None else figure.layout.height + _TITLE,
    )
    return figure


def mime_bundle(draw: Callable[[], Any], text: str) -> Mapping[str, Any]:
    """The MIME bundle of a figure for a notebook, with ``text`` where figures cannot be drawn."""
    if find_spec("plotly") is None:
        return {"text/plain": text}
    return {**draw()._repr_mimebundle_(), "text/plain": text}


# Of a run ----------------------------------------------------------------------------------------------------

#: The default number of budgets of a curve.
_POINTS = {"accuracy": 9, "latency": 5}


def heads(run: Run, *, dark: bool) -> Any:
    """The kept heads, coloured and lettered by cluster."""
    figure = grid_figure(run.mask, run.arrays["labels"], dark=dark)
    return add_title(figure, f"{run.mask.count} of {run.mask.keep.size} heads kept", dark=dark)


def space(run: Run, *, dark: bool) -> Any:
    """The heads in the plane of the projection."""
    labels = run.arrays["labels"]
    salience = run.arrays["salience"].reshape(run.mask.keep.shape)
    figure = space_figure(run.arrays["embedding"], salience, labels, run.mask, run.document.settings, dark=dark)
    clusters = len(np.unique(labels))
    return add_title(figure, f"{run.mask.count} kept heads in {clusters} clusters", dark=dark)


def silhouette(run: Run, *, dark: bool) -> Any:
    """The mean silhouette of the heads in k clusters, by k."""
    knee = run.document.knee
    figure = curves.silhouette(run.arrays["ks"], run.arrays["mss"], knee, dark=dark)
    return add_title(
        figure, "The curve has no knee" if knee is None else f"The knee of the curve is at {knee} clusters", dark=dark
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
    """Accuracy or time by budget; missing figures are measured and cached.

    Raises:
        BudgetError: If a budget is impossible.
    """
    settings, recovery = bench.settings, RECOVERIES[bench.settings.recover]
    total = run.mask.keep.size
    fewest = max(1, settings.min_per_layer * run.mask.layers)
    wanted = _spread(fewest, total, run.mask.count, _POINTS[what]) if budgets is None else sorted(set(budgets))
    for budget in wanted:
        if not fewest <= budget <= total:
            raise BudgetError(f"a budget of {budget} heads is impossible; budgets lie in {fewest}..{total}")
    shown = recovery if recovery.swept and what == "accuracy" else NONE
    rows = []
    for done, budget in enumerate(wanted):
        progress("table", done, len(wanted))
        mask = _mask(bench, budget)
        if what == "accuracy":
            rows.append(Row(budget, None, evaluate_mask(bench, mask, recover=shown.name), None, None))
        elif not mask.empty_layers and budget < total:
            costs = bench.measurements.costs(mask, length=bench.length, seconds=bench.latency_seconds)
            rows.append(Row(budget, None, None, None, Speed.of(costs.ratio, costs.full, costs.pruned)))
    progress("table", len(wanted), len(wanted))
    if what == "latency":
        return add_title(curves.latency_by_budget(rows, dark=dark), "Time saved with fewer heads", dark=dark)
    title = f"Accuracy on {settings.eval_split} ({shown.result}), measured at {len(rows)} budgets"
    return add_title(curves.accuracy_by_budget(rows, dark=dark), title, dark=dark)


def _spread(fewest: int, total: int, own: int, count: int) -> list[int]:
    """``count`` budgets, evenly spaced, with both ends and the run's ``own``."""
    spread = np.linspace(fewest, total, min(count, total - fewest + 1)).round().astype(int).tolist()
    return sorted({*spread, max(own, fewest)})


def _mask(bench: Bench, budget: int) -> HeadMask:
    """The heads that the run's method keeps at a budget."""
    card, settings = bench.card, bench.settings
    if budget == card.layers * card.heads:
        return HeadMask.full(card.layers, card.heads)
    choice = method_of(settings).choose(bench.evidence, budget=budget, min_per_layer=settings.min_per_layer)
    return choice.mask
