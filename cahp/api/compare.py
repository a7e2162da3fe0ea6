"""``cahp.compare``: methods of choosing heads, compared under one protocol."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack, get_args

from cahp.api.figures import add_title, cell, check_plotly
from cahp.api.options import AnyData, AnyModel, ShowProgress, read_call, show_progress
from cahp.comparison.plan import ListOption, make_plan
from cahp.comparison.result import Comparison
from cahp.comparison.running import compare as measure
from cahp.figures.comparison_blocks import (
    Filters,
    list_means,
    show_comparison,
    show_curve,
    show_means,
    show_notes,
    show_ranking,
)
from cahp.run.keywords import DataOptions
from cahp.run.settings import Settings
from cahp.show import html, terminal
from cahp.show.blocks import Figure
from cahp.store import Store
from cahp.values import OptionError, check_known

#: The figures of a comparison.
ComparisonFigure = Literal["curve", "ranking"]


@dataclass(frozen=True, eq=False, repr=False)
class CompareResult(Comparison):
    """A finished comparison, as ``cahp.compare`` returns it.

    It shows itself as text, in a notebook as tables; ``table`` is for ``pandas``, ``write`` saves it. ``document`` is
    the contents of ``compare.json``, ``summary`` its means, areas and tests, ``results`` both by method, budget and
    recovery.
    """

    @property
    def table(self) -> dict[str, list[Any]]:
        """Outcomes as columns by name, with a row for each recovery, method and budget; ``pandas.DataFrame`` takes it.

        ``accuracy``, ``accuracy_low`` and ``accuracy_high`` (95 % interval) are shares in 0..1, ``kl``, ``kl_low`` and
        ``kl_high`` nats.
        """
        return list_means(mean for _, mean in sorted(self.results.means.items()))

    def plot(
        self,
        name: ComparisonFigure = "curve",
        *,
        outcome: str | None = None,
        recovery: str | None = None,
        budget: int | None = None,
        methods: Sequence[str] | None = None,
        dark: bool = False,
    ) -> Any:
        """A figure of the explorer's Compare page, as a ``plotly.graph_objects.Figure``.

        Args:
            name: ``curve`` (an outcome by budget) or ``ranking`` (all methods at a budget).
            outcome: ``kl``, ``agreement`` or ``accuracy``, of a language model ``nll`` or ``copying`` instead of the
                accuracy (None: the first that was measured).
            recovery: Name of the recovery (None: the first, before any recovery).
            budget: Number of kept heads of ``ranking`` (None: the fewest). The best method there
                has a colour.
            methods: The methods to draw (None: all).
            dark: Draw for a dark page.

        Raises:
            OptionError: If there is no such figure, outcome, recovery, budget or method, it has no points, or plotly
                is not installed.
        """
        check_known("figure", name, get_args(ComparisonFigure))
        check_plotly()
        outcome = _among("outcome", outcome, self.results.outcomes)
        results = self.results_on(self.document.parts[-1], outcome)
        stage = _among("recovery", recovery, self.document.recoveries)
        at = _among("budget", budget, results.budgets)
        shown = tuple(methods or results.methods)
        for method in shown:
            check_known("method", method, results.methods)
        filters = Filters(outcome, stage, at, shown)
        blocks = [*show_ranking(results, filters)]
        if name == "curve":
            # With a single budget the ranking shows the outcome.
            blocks = [*show_curve(results, filters), *blocks]
        for block in blocks:
            if isinstance(block, Figure):
                return add_title(block.draw(dark), block.title, dark=dark)
        raise OptionError(f"nothing was measured there that {name} shows; choose another recovery, budget or method")

    def __repr__(self) -> str:
        return "\n".join(terminal.lines(show_comparison(self)))

    def _repr_html_(self) -> str:
        # After each recovery, the mean outcome of every method by budget, with its 95 % interval.
        tables = [show_means(self.results, recovery) for recovery in self.document.recoveries]
        return cell(*html.draw([*tables, *show_notes(self.results, None)]))


def _among(what: str, wanted: Any, known: Sequence[Any]) -> Any:
    """``wanted``, or the first of the ``known``."""
    if wanted is None:
        return known[0]
    check_known(what, wanted, known)
    return wanted


def compare(
    model: AnyModel = Settings.model,
    data: AnyData | None = None,
    *,
    preset: str | None = None,
    methods: ListOption = None,
    budgets: ListOption = None,
    seeds: ListOption = None,
    recover: ListOption = None,
    limit: int | None = None,
    eval_limit: int | None = None,
    tries: int = 1,
    draws: int | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    command: str = "",
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[DataOptions],
) -> CompareResult:
    """Compare methods of choosing heads under one protocol; an interrupted comparison resumes where it stopped.

    ``cahp.compare("minilm-bbc", methods=["complementary", "random"], budgets=[12, 36])`` does the same as
    ``cahp compare`` with these options.

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; a ``Settings``; or a run, which tells what is not given.
        data: A built-in, a file, a folder, ``hub:org/name``, a table or a list of texts (None: those of the model).
        preset: ``"quick"`` (unless methods are named), ``"posthoc"``, ``"full"`` or ``"recovery"``; of a language model
            without answers ``"language"``.
        methods: Names of methods, as a list or with commas (None: those of the preset), or classes of methods in a
            list. ``"gradient-min-0"`` is ``gradient`` with another per-layer minimum.
        budgets: Numbers of heads that every method keeps, or shares such as ``"10%"``.
        seeds: The number of seeds (5), or the seeds ([42, 43]).
        recover: Names of recoveries (see ``cahp.recoveries``) to measure as well.
        limit: Number of calibration texts (None: that of the ``Settings`` if it differs from its default, else that of
            the preset).
        eval_limit: Number of evaluation texts (None: likewise).
        tries: Number of settings of a method to choose among on tuning texts (1: its defaults).
        draws: Number of masks of each random method, over all seeds, at most 20 (None: that of the preset).
        jobs: Number of processes on this machine (None: one, or one per GPU).
        cluster: ``"dask"``, or ``"dask:ADDRESS"`` of a scheduler.
        command: The command line to record in the document.
        progress, yes, store: See ``cahp.prune``.
        **options: Options of the data and of the machine; see ``cahp.Settings``.

    Raises:
        CahpError: If the comparison cannot be measured; one line with the next step.
    """
    with show_progress(progress, yes=yes) as reporter:
        settings, _ = read_call("compare", model, data, options)
        plan = make_plan(
            settings,
            preset=preset,
            methods=methods,
            budgets=budgets,
            seeds=seeds,
            recover=recover,
            limit=limit,
            eval_limit=eval_limit,
            tries=tries,
            draws=draws,
        )
        comparison = measure(
            plan,
            store=store,
            jobs=jobs,
            cluster=cluster,
            command=command,
            progress=reporter,
            announce=reporter.say,
        )
    return CompareResult(comparison.document, comparison.answers, comparison.written)
