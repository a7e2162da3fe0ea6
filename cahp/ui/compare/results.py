"""The results of methods: accuracies, tests of their differences, costs, and downloads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from cahp.comparison import Comparison, SplitResults
from cahp.comparison.sentences import after, ahead_and_behind, method_label, over, verdict_sentence
from cahp.figures.comparison import accuracy_figure, difference_figure
from cahp.recoveries import RECOVERIES
from cahp.ui.compare.view import ComparisonView
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, plain
from cahp.words import percent, span

_INTERVAL = r"\left[q_{2.5},\,q_{97.5}\right]\text{ of }\bar a^{*}\text{ over draws of seeds}\times\text{texts}"
_TEST = r"p=\min\!\left(1,\;2\,\frac{1+\min(\#\{\Delta^*\le 0\},\#\{\Delta^*\ge 0\})}{1+B}\right),\quad B=10\,000"
_AREA = r"\bar a=\frac{1}{k_m-k_1}\sum_{i=1}^{m-1}\frac{(a_i+a_{i+1})\,(k_{i+1}-k_i)}{2}"
#: The columns of a table of tests.
_TEST_COLUMNS = ("method", "against", "budget", "recovery", "pp", "low", "high", "p", "p_holm", "better", "n", "seeds")
#: The column of the mean accuracy over the budgets of a recovery.
_MEAN_ACCURACY = "Accuracy (%)"


def draw_accuracy(results: SplitResults, view: ComparisonView) -> None:
    """Draw accuracy by method and budget."""
    dark = display.is_dark()
    keys = [(view.recovery, name, budget) for name in view.methods for budget in results.budgets]
    means = [results.means[key] for key in keys if key in results.means]
    if not means:
        st.info("None of these methods was measured after this recovery. Select others above.")
        return
    figure = cache_with(
        results,
        ("accuracy", view.recovery, view.methods, dark),
        lambda: accuracy_figure(
            results,
            view.recovery,
            view.methods,
            others=[name for name in results.methods if name not in view.methods],
            dark=dark,
        ),
    )
    display.show(
        figure,
        title=_accuracy_title(results, view),
        help=(
            f"Accuracy on {results.n:,} evaluation texts. Each line is a method: the mean over "
            f"{len(results.document.seeds)} seeds, for random selection over many masks. **Bands** are 95 % intervals "
            "of a bootstrap over texts and seeds. They overlap more than the differences below, because all methods "
            "are evaluated on the same texts. With more than eight methods, only the reference and one random method "
            "have bands; the others show their interval in the tooltip. Grey lines are random selection and methods "
            "beyond eight colours. Lines between budgets are interpolated."
        ),
        formula=_INTERVAL,
        name="compare-accuracy",
        alt=" ".join(
            f"{method_label(mean.method)} at {mean.budget} heads: {mean.accuracy.text}." for mean in means[:40]
        ),
        data={name: [mean.as_row()[name] for mean in means] for name in means[0].as_row()},
    )


def _accuracy_title(results: SplitResults, view: ComparisonView) -> str:
    keys = [(view.recovery, name, view.budget) for name in view.methods]
    accuracies = [results.means[key].accuracy.value for key in keys if key in results.means]
    when = after(view.recovery).capitalize()
    if not accuracies:
        return f"{when}, nothing was measured at {view.budget} heads"
    low, high = min(accuracies), max(accuracies)
    accuracy = percent(low) if len(accuracies) == 1 else f"{span(100 * low, 100 * high)} %"
    return (
        f"{when}, {view.budget} of {results.total} heads have an accuracy of {accuracy}; all heads have "
        f"{percent(results.full['none'])}"
    )


def draw_differences(results: SplitResults, view: ComparisonView) -> None:
    """Draw the tests of differences to the reference."""
    after_recovery = [
        test
        for test in (*results.overall, *results.verdicts)
        if test.recovery == view.recovery and test.method in view.methods
    ]
    tests = [test for test in after_recovery if test.budget == view.budget]
    if not tests:
        return
    ours, when, dark = method_label(results.against), after(view.recovery), display.is_dark()
    # The title covers all methods, whichever are shown.
    all_tests = [test for test in results.verdicts if (test.recovery, test.budget) == (view.recovery, view.budget)]
    display.show(
        cache_with(results, ("differences", view, dark), lambda: difference_figure(results.against, tests, dark=dark)),
        title=f"At {view.budget} heads, {when}, {ahead_and_behind(results.against, all_tests)}",
        help=(
            f"Points are the accuracy of {ours} minus that of the other method on the same texts; lines are 95 % "
            "intervals. **Solid** points are significant, **hollow** points are no difference at this n: more texts or "
            "seeds might show one. The test is a paired bootstrap over texts and seeds. p is corrected by Holm over "
            "all budgets and methods after this recovery, so a tie may have an interval without 0."
        ),
        formula=_TEST,
        name="compare-differences",
        alt=" ".join(verdict_sentence(test, results.budgets, label=method_label) for test in tests[:30]),
        data={name: [getattr(test, name) for test in tests] for name in _TEST_COLUMNS},
    )
    with st.expander(f"All {len(after_recovery)} tests {when}, in words", key="compare-words"):
        ordered = sorted(after_recovery, key=lambda test: (test.tie, test.budget or 0, -abs(test.pp)))
        sentences = [verdict_sentence(test, results.budgets, label=method_label) for test in ordered]
        st.markdown("\n".join(f"- {plain(sentence)}" for sentence in sentences))


# Costs and files ---------------------------------------------------------------------------------------------


def draw_costs(results: SplitResults, view: ComparisonView) -> None:
    """Draw the cost of each method, beside its accuracy."""
    shown = [name for name in view.methods if name in results.cost]
    if not shown:
        return
    table = cost_table(results, shown, view.recovery)
    areas = [results.areas[view.recovery, name] for name in shown if (view.recovery, name) in results.areas]
    budgets = over(areas[0].budgets if areas else results.budgets, results.budgets)
    with st.container(key="figure-compare-cost"):
        display.heading(
            _cost_title(results, shown),
            help=(
                "A **forward pass** is one text through the full model (a backward pass counts as two), as if nothing "
                "were cached: use it to compare methods. **Seconds** are what this comparison took for the costliest "
                "budget, without evidence that another method had gathered before. They are means over **n** seeds or "
                "masks, without an interval, and depend on the machine. **Labels** are the labelled texts that a "
                f"method needs. **Accuracy** is the mean {budgets} {after(view.recovery)} (the area under the line of "
                "the first chart, divided by its width), with its 95 % interval, for methods measured at all of them."
            ),
            formula=_AREA if _MEAN_ACCURACY in table else None,
            name="compare-cost",
            data=table,
        )
        st.dataframe(
            table,
            hide_index=True,
            height="content",
            column_config={
                "Forward passes": st.column_config.NumberColumn(format="localized"),
                "Labels": st.column_config.NumberColumn(format="localized"),
                **{name: st.column_config.NumberColumn(format="%.2f") for name in table if name.endswith("(s)")},
            },
        )


def cost_table(results: SplitResults, shown: Sequence[str], recovery: str) -> dict[str, list[Any]]:
    """Cost and accuracy after a recovery of each method, column by column."""
    costs = [results.cost[name] for name in shown]
    areas = [results.areas.get((recovery, name)) for name in shown]
    table: dict[str, list[Any]] = {"Method": [method_label(name) for name in shown]}
    if any(areas):
        table[_MEAN_ACCURACY] = [
            "some budgets only" if area is None else _estimate(area.area, area.low, area.high) for area in areas
        ]
    elif len(budgets := results.budgets_after(recovery)) == 1:
        means = [results.means.get((recovery, name, budgets[0])) for name in shown]
        table[f"Accuracy at {budgets[0]} heads (%)"] = [
            "not measured" if mean is None else _estimate(mean.accuracy.value, mean.accuracy.low, mean.accuracy.high)
            for mean in means
        ]
    table |= {
        "Forward passes": [None if cost.forwards is None else round(cost.forwards) for cost in costs],
        "Labels": [cost.labels for cost in costs],
        # Seconds are means without an interval, so the number of seeds or masks stands beside them.
        "Selecting (s)": [cost.score_s for cost in costs],
        "n (seeds)": [results.seeds_of(name) for name in shown],
    }
    for other in results.by_cost:
        if other != "none":
            noun = RECOVERIES[other].noun
            table[f"{noun.capitalize()} (s)"] = [cost.recovery_s.get(other) for cost in costs]
            table[f"n ({noun})"] = [results.masks_of(name, other) for name in shown]
    return table


def _estimate(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} ({span(100 * low, 100 * high)})"


def _cost_title(results: SplitResults, shown: Sequence[str]) -> str:
    passes = {name: forwards for name in shown if (forwards := results.cost[name].forwards) is not None}
    if not passes:
        return "These methods do not state their cost"
    costliest = max(passes, key=lambda name: passes[name])
    free = sum(not forwards for forwards in passes.values())
    title = f"{method_label(costliest)} is the costliest: {passes[costliest]:,.0f} forward passes"
    return title + (f"; {free} method{'' if free == 1 else 's'} need{'s' if free == 1 else ''} none" if free else "")


def draw_downloads(comparison: Comparison) -> None:
    """Draw the buttons that download the comparison, and its command."""
    with st.container(horizontal=True, key="compare-downloads", gap="small", vertical_alignment="center"):
        st.markdown("**Download:**", width="content")
        for label, name, kind in (
            ("Document (JSON)", "compare.json", "application/json"),
            ("Table (CSV)", "comparison.csv", "text/csv"),
        ):
            st.download_button(
                label,
                lambda name=name: comparison.files[name],
                name,
                kind,
                key=f"compare-get-{name}",
                on_click="ignore",
            )
        st.download_button(
            "All, with figures (ZIP)",
            lambda: comparison.archive,
            "comparison.zip",
            "application/zip",
            key="compare-get-all",
            on_click="ignore",
        )
    command = comparison.document.command
    if command:
        with st.expander("Command", key="compare-command"):
            st.code(command[:2000], language="bash", wrap_lines=True)
