"""``cahp.compare``: methods of choosing heads side by side, as a table and figures that show themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

from cahp.api import drawing
from cahp.api.following import Followed, following
from cahp.api.options import DataOptions, Name, settings_of
from cahp.comparison.plan import ListOption, Plan, make_plan
from cahp.comparison.result import Comparison
from cahp.comparison.running import compare as measured
from cahp.comparison.sentences import after, method_label, over
from cahp.figures import comparison as figures
from cahp.figures import comparison_heads as head_figures
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError

#: The figures of a comparison.
ComparisonFigure = Literal["accuracy", "differences", "layers", "overlap", "consensus"]


@dataclass(frozen=True, eq=False, repr=False)
class CompareResult(Comparison):
    """Methods measured under one protocol, as ``cahp.compare`` gives them.

    It shows itself as a table in a notebook and as text in a terminal. ``document`` is all that ``compare.json`` says,
    ``summary`` its means, areas and tests, ``results`` both by method, budget and recovery.
    """

    @property
    def table(self) -> dict[str, list[Any]]:
        """Accuracy, columns by name, a row for each recovery, method and budget.

        ``accuracy``, ``low`` and ``high`` (95 % interval) are shares in 0..1; ``pandas.DataFrame`` takes it.
        """
        means = [self.results.means[key] for key in sorted(self.results.means)]
        columns = ("recovery", "method", "budget", "accuracy", "low", "high", "macro_f1", "agreement", "n", "seeds")
        return {name: [getattr(one, name) for one in means] for name in columns}

    def plot(
        self,
        name: ComparisonFigure = "accuracy",
        *,
        recovery: str | None = None,
        budget: int | None = None,
        methods: Sequence[str] | None = None,
        dark: bool = False,
    ) -> Any:
        """A figure of the explorer's Compare page, as a ``plotly.graph_objects.Figure``.

        Args:
            name: ``accuracy`` (by budget), ``differences`` (which passed the test), or of the heads that are kept at a
                budget: ``layers``, ``overlap`` (Jaccard index of every two methods), ``consensus`` (of all).
            recovery: After which recovery (None: the first, before any).
            budget: At how many heads (None: the fewest; ``differences`` then shows the area over all budgets of the
                recovery, if there is one).
            methods: Which methods are drawn (None: all).
            dark: Draw for a dark page.

        Raises:
            OptionError: If there is no such figure, recovery, budget or method, or plotly is not installed.
        """
        drawing.check(name, get_args(ComparisonFigure))
        found = self.results
        stage = _among("recovery", recovery, found.recoveries)
        when = after(stage)
        at = _among("budget", budget, found.budgets)
        shown = tuple(found.methods) if methods is None else tuple(methods)
        for method in shown:
            _among("method", method, tuple(found.methods))
        if name == "accuracy":
            figure = figures.accuracy_figure(found, stage, shown, dark=dark)
            title = f"Accuracy on {found.split}, {when}"
        elif name == "differences":
            overall = [one for one in found.overall if one.recovery == stage and one.method in shown]
            single = [
                one for one in found.verdicts if (one.recovery, one.budget) == (stage, at) and one.method in shown
            ]
            over_all = budget is None and bool(overall)
            figure = figures.difference_figure(found.against, overall if over_all else single, dark=dark)
            where = over(overall[0].budgets, found.budgets) if over_all else f"at {at} heads"
            title = f"{method_label(found.against)} against the others {where}, {when}"
        elif name == "layers":
            figure = head_figures.layer_figure(found, at, shown, dark=dark)
            title = f"Where the {at} kept heads lie"
        elif name == "overlap":
            figure = head_figures.overlap_figure(found, at, shown, dark=dark)
            title = f"Heads in common at {at} heads"
        else:
            if at not in found.consensus:
                raise OptionError(f"what methods agree on at {at} heads was not measured; compare two methods or more")
            figure = head_figures.consensus_figure(found.consensus[at], dark=dark)
            title = f"How many methods keep each head, {at} heads each"
        return drawing.titled(figure, title, dark=dark)

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write ``compare.json``, ``comparison.csv`` and the figures into ``folder``, as ``cahp compare --out`` does.

        Raises:
            CahpError: If the folder cannot be written to.
        """
        self.write(Path(folder))
        return Path(folder)

    def __repr__(self) -> str:
        from cahp.terminal.comparison import summary

        return "\n".join(summary(self))

    def _repr_html_(self) -> str:
        from cahp.api.showing import comparison_html

        return comparison_html(self.results)


def _among(what: str, wanted: Any, known: Sequence[Any]) -> Any:
    """What is wanted, or the first that there is."""
    if wanted is None:
        return known[0]
    if wanted not in known:
        raise OptionError(f"the comparison has no {what} {wanted}; choose among {', '.join(map(str, known))}")
    return wanted


def compare(
    model: Name | Plan = Settings.model,
    data: Name | None = None,
    *,
    preset: str | None = None,
    methods: ListOption = None,
    budgets: ListOption = None,
    seeds: str | int | Iterable[int] | None = None,
    recover: ListOption = None,
    limit: int | None = None,
    eval_limit: int | None = None,
    tries: int = 1,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Followed = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[DataOptions],
) -> CompareResult:
    """Measure methods of choosing heads under one protocol; an interrupted comparison goes on where it stopped.

    ``cahp.compare("minilm-bbc", methods=["complementary", "random"], budgets=[12, 36])`` is what ``cahp compare`` of
    the same words does.

    Args:
        model: A built-in, a hub id or a folder, or all that is asked as a ``cahp.comparison.Plan``.
        data: A built-in, a file, a folder or ``hub:org/name``; without, what comes with the model.
        preset: ``"quick"`` (unless methods are named), ``"posthoc"``, ``"full"`` or ``"recovery"``.
        methods: Names of methods, as a list or with commas.
        budgets: How many heads every method keeps, numbers or shares such as ``"10%"``.
        seeds: How many (5), or which ([42, 43]).
        recover: After which recoveries: ``"refit"``, ``"distill"``, ``"finetune"``.
        limit: Calibration texts.
        eval_limit: Evaluation texts.
        tries: Settings of a method that tuning texts choose among.
        jobs: Processes of this machine; without, one, or one for each of several GPUs.
        cluster: ``"dask"``, or ``"dask:ADDRESS"`` of a scheduler.
        progress: See ``cahp.prune``.
        yes: See ``cahp.prune``.
        store: Where results are kept, and found again; by default the user's cache.
        **options: How the data are read, as ``cahp.Settings`` says it.

    Raises:
        CahpError: If what is asked cannot be measured: one sentence with the next step.
    """
    if isinstance(model, Plan):
        given = (data, preset, methods, budgets, seeds, recover, limit, eval_limit)
        if options or tries != 1 or any(one is not None for one in given):
            raise OptionError("a Plan says all that is asked; give the options to it, or none of it")
        plan = model
    else:
        plan = make_plan(
            settings_of(model, data, **options),
            preset=preset,
            methods=methods,
            budgets=budgets,
            seeds=seeds,
            recover=recover,
            limit=limit,
            eval_limit=eval_limit,
            tries=tries,
        )
    with following(progress, yes=yes) as follow:
        from cahp.terminal.comparison import announcement

        found = measured(
            plan,
            store=store,
            jobs=jobs,
            cluster=cluster,
            progress=follow.progress,
            announce=lambda estimate: follow.say(announcement(estimate)),
        )
    return CompareResult(found.document, found.correct, found.written)
