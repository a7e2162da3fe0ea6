"""How results show themselves in Python: figures with titles and the measurements they need, and HTML for notebooks.

The HTML loads nothing and runs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from cahp.board.budget_sweep import evaluate_mask
from cahp.board.colourings import mark_clusters
from cahp.board.head_clusters import families_of
from cahp.exports.drawings import STYLE, grid
from cahp.exports.report import describe_value
from cahp.figures import run as run_figures
from cahp.figures.head_grid import grid_figure
from cahp.figures.marks import label
from cahp.figures.run import space_figure
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.prune import Run, choose
from cahp.run.show import show_outcomes
from cahp.show import html
from cahp.show.blocks import Text
from cahp.values import Fields, OptionError, Progress, spread
from cahp.words import capital, safe

#: The figures of a run: those of ``OF_RUN``, those by budget, and the similarity of heads on a text.
RunFigure = Literal["heads", "space", "silhouette", "accuracy", "kl", "agreement", "latency", "similarity"]
#: A figure and its title.
Titled = tuple[Any, str]
#: Pixels of a title.
_TITLE = 34


def check_plotly() -> None:
    """Check that Plotly is installed.

    Raises:
        OptionError: If not.
    """
    if find_spec("plotly") is None:
        raise OptionError('figures need plotly; install it with pip install "cahp-explorer[notebook]"')


def add_title(figure: Any, title: str, *, dark: bool) -> Any:
    """Put the title of a page's figure into the figure."""
    top = (figure.layout.margin.t or 0) + _TITLE
    template = "plotly_dark" if dark else "plotly_white"
    height = figure.layout.height
    if height is not None:
        height += _TITLE
    figure.update_layout(
        template=template,
        title={
            "text": label(title, limit=160),
            "x": 0.01,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8},
        },
        margin={"t": top},
        height=height,
    )
    return figure


def mime_bundle(drawn: Any, **_: Any) -> Fields:
    """The MIME bundle for a notebook of what has a figure: its text alone where figures cannot be drawn."""
    text = {"text/plain": repr(drawn)}
    if find_spec("plotly") is None:
        return text
    return {**drawn.plot()._repr_mimebundle_(), **text}


# Of a run ----------------------------------------------------------------------------------------------------


def _heads(run: Run, *, dark: bool) -> Titled:
    """The kept heads, coloured and lettered by cluster."""
    marks = mark_clusters(run.arrays["labels"], families_of(run.arrays, run.document))
    unit = run.document.model.unit
    title = f"{run.mask.count} of {run.mask.keep.size} {unit}s kept"
    return grid_figure(run.mask, marks, dark=dark, unit=unit), title


def _space(run: Run, *, dark: bool) -> Titled:
    """The heads in the plane of the projection."""
    labels = run.arrays["labels"]
    salience = run.arrays["salience"].reshape(run.mask.keep.shape)
    marks = mark_clusters(labels, families_of(run.arrays, run.document))
    settings = run.document.settings
    unit = run.document.model.unit
    figure = space_figure(run.arrays["embedding"], salience, marks, run.mask, settings, unit=unit, dark=dark)
    return figure, f"{run.mask.count} kept {unit}s in {len(np.unique(labels))} clusters"


def _silhouette(run: Run, *, dark: bool) -> Titled:
    """The mean silhouette of the heads in k clusters, by k."""
    knee = run.document.knee
    figure = run_figures.silhouette(run.arrays["ks"], run.arrays["mss"], knee, dark=dark)
    if knee is None:
        return figure, "The curve has no knee"
    return figure, f"The knee of the curve is at {knee} clusters"


#: The figures that need no measurement beside the run, by name: each function returns a figure and its title.
OF_RUN: Mapping[str, Callable[..., Titled]] = {"heads": _heads, "space": _space, "silhouette": _silhouette}


def by_budget(
    run: Run,
    bench: Bench,
    what: str,
    *,
    budgets: Sequence[int] | None,
    progress: Progress,
    dark: bool,
) -> Any:
    """An outcome by its name, or the ``latency``, by budget; missing figures are measured and cached.

    Raises:
        BudgetError: If a budget is impossible.
    """
    settings = bench.settings
    full = run.mask.unpruned
    rules = settings.budget_rules(full)
    possible = rules.possible
    if budgets is None:
        # Evenly spaced, with both ends and the run's own budget.
        count = 5 if what == "latency" else 9
        budgets = [*(possible[place] for place in spread(len(possible), count)), max(run.mask.count, possible[0])]
    wanted = sorted(set(budgets))
    for budget in wanted:
        rules.parse(str(budget))
    recovery = NONE if RECOVERIES[settings.recover].trains else RECOVERIES[settings.recover]
    measured = {}
    for done, budget in enumerate(wanted):
        progress("table", done, len(wanted))
        mask = choose(bench, budget).mask if budget < full.count else full
        if what != "latency":
            measured[budget] = evaluate_mask(bench, mask, recover=recovery.name)[what]
        elif not mask.is_full and bench.measurements.can_cut(mask):
            measured[budget] = bench.costs(mask).ratio
    progress("table", len(wanted), len(wanted))
    label = "time per batch, pruned / full"
    level: float | None = 1.0
    title = label
    if what != "latency":
        label = OUTCOMES[what].label
        level = None
        title = f"{label} on {settings.eval_split} ({recovery.result})"
    figure = run_figures.by_budget(measured, label, level=level, dark=dark)
    return add_title(figure, f"{capital(title)}, measured at {len(measured)} budgets", dark=dark)


# HTML ----------------------------------------------------------------------------------------------------------------

# The report's style, for the inside of one cell: its page's own colours come from the notebook's theme.
_STYLE = (
    ".cahp-cell{--ink:currentColor;--faint:color-mix(in srgb,currentColor 65%,transparent);--ground:transparent;"
    "--rule:color-mix(in srgb,currentColor 20%,transparent);--accent:#2b7f95;max-width:46rem;"
    f"{STYLE}}}"
)


def run_html(run: Run) -> str:
    """A run: what pruning did in words, which heads stay, and the figures with their intervals."""
    document = run.document
    title = f"On {document.data.eval.split}, with 95 % intervals"
    outcomes = show_outcomes(title, document.outcomes)
    notes = [Text(notice) for notice in document.notices]
    return cell(
        f"<p>{safe(': '.join(describe_value(document)))}</p>",
        grid(run.mask, run.arrays["labels"], families_of(run.arrays, document), unit=document.model.unit),
        *html.draw([outcomes, *notes]),
    )


def cell(*parts: str) -> str:
    """One cell of a notebook, with its style."""
    return f'<div class="cahp-cell"><style>{_STYLE}</style>{"".join(parts)}</div>'
