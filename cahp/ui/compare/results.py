"""The results of methods: outcomes, tests of their differences, heads they keep, costs, and downloads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
import streamlit as st

from cahp.comparison import Comparison, SplitResults
from cahp.comparison.document import Verdict, means_as_table
from cahp.comparison.plan import split_minimum
from cahp.comparison.result import mean_layer
from cahp.comparison.sentences import (
    after,
    ahead_and_behind,
    method_label,
    name_outcome,
    over,
    verdict_sentence,
)
from cahp.figures.comparison import curve_figure, difference_figure, ranking_figure
from cahp.figures.comparison_heads import (
    by_depth,
    consensus_figure,
    layer_figure,
    mean_overlap,
    overlap_figure,
    overlap_table,
)
from cahp.figures.head_grid import places
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.ui.compare.view import ComparisonView
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, plain
from cahp.values import Estimate
from cahp.words import capital, counted, percent

_INTERVAL = (
    r"\bar a\pm t_{\nu}\sqrt{\frac{A+B-E}{S\,n}},\quad "
    r"\nu=\frac{(A+B-E)^2}{\frac{A^2}{S-1}+\frac{B^2}{n-1}+\frac{E^2}{(S-1)(n-1)}}"
)
_TEST = r"t=\bar\Delta\Big/\sqrt{\frac{A+B-E}{S\,n}}\text{ of paired differences }\Delta_{s,i}"
_AREA = r"\bar a=\frac{1}{k_m-k_1}\sum_{i=1}^{m-1}\frac{(a_i+a_{i+1})\,(k_{i+1}-k_i)}{2}"
_DEPTH = r"\bar\ell=\frac{\sum_{\ell}\ell\,k_\ell}{\sum_{\ell}k_\ell},\qquad \text{even spread: }\frac{L-1}{2}"
_JACCARD = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{2k-i},\quad "
    r"P=\text{hypergeometric}(N,k,k)"
)
#: Names of methods with another per-layer minimum.
_MINIMUM = " A name that ends with **-min-N** is that method with at least N heads in each layer, 0 for no minimum."
#: Methods whose overlaps a screen reader says.
_SPOKEN_METHODS = 12
#: How the tests were made.
_RULE = (
    "The test is a paired t test with variance components of both, and seeds − 1 degrees of freedom. p is corrected by "
    "Holm over all budgets and methods after this recovery, and the intervals by Bonferroni. If an interval excludes "
    "0, its p is at most 0.05; Holm's p can also be below 0.05 although the interval contains 0."
)
#: The columns of a table of tests.
_TEST_COLUMNS = (
    *("outcome", "method", "against", "budget", "recovery", "pp", "unit", "p", "p_holm", "better", "n", "seeds"),
)


def _draw_once(figure: Callable[..., Any], results: SplitResults, *choice: Hashable) -> Any:
    """Return ``figure(results, *choice)`` for this theme; one figure serves all sessions."""
    dark = display.is_dark()
    return cache_with(results, (figure.__name__, *choice, dark), lambda: figure(results, *choice, dark=dark))


def draw_ranking(results: SplitResults, view: ComparisonView) -> None:
    """Draw the methods at the selected number of heads, the best on top."""
    means = [mean for mean in results.rank(view.recovery, view.budget) if mean.method in view.methods]
    if not means:
        st.info("None of these methods was measured after this recovery at this number of heads. Select others above.")
        return
    ours = method_label(results.against)
    when = after(view.recovery)
    seeds = counted(len(results.document.seeds), "seed")
    minimum = ""
    if any(split_minimum(name)[1] is not None for name in results.methods):
        minimum = _MINIMUM
    # The title covers all methods, whichever are shown.
    tests = results.tests_at(view.recovery, view.budget)
    finding = ahead_and_behind(results.against, tests, noun=results.noun)
    display.show(
        _draw_once(ranking_figure, results, view.recovery, view.budget, view.methods),
        title=f"At {view.budget} heads, {when}, {finding}",
        help=f"{capital(OUTCOMES[results.outcome].label)} on {results.n:,} evaluation {results.noun}, the mean over "
        f"{seeds}. **Dots**: as pruned. **Rings**: after a recovery. Order, "
        f"numbers and 95 % intervals are those {when}. The methods in colour are {ours}, the best other one, and "
        f"random selection, whose interval is the band. **Pale**: the difference from {ours} is not significant. "
        "Intervals can overlap although a difference is significant, because all methods are "
        f"evaluated on the same {results.noun}. The dashed line is the full model.{minimum}",
        formula=_INTERVAL,
        name="compare-ranking",
        alt=" ".join(f"{method_label(mean.method)}: {results.estimate(mean).text}." for mean in means[:40]),
        data=means_as_table(means),
    )
    if len(results.document.seeds) > 1:
        st.caption(
            f"Numbers are means of {seeds}, each with calibration texts of its own. The Budget page shows one choice, "
            "so its numbers differ."
        )


def draw_curve(results: SplitResults, view: ComparisonView) -> None:
    """Draw the outcome by method and budget; with a single budget the ranking shows it."""
    budgets = results.budgets_after(view.recovery)
    keys = product((view.recovery,), view.methods, budgets)
    means = [results.means[key] for key in keys if key in results.means]
    if not means or len(budgets) < 2:
        return
    others = tuple(name for name in results.methods if name not in view.methods)
    title = f"{capital(name_outcome(results.outcome))}, {after(view.recovery)}"
    ours = [key for budget in budgets if (key := (view.recovery, results.against, budget)) in results.means]
    if ours:
        first_and_last = [results.means[key] for key in dict.fromkeys((ours[0], ours[-1]))]
        ends = ", ".join(f"{results.estimate(mean).text} at {mean.budget} heads" for mean in first_and_last)
        title += f": {method_label(results.against)} {ends} (mean of {counted(len(results.document.seeds), 'seed')})"
    display.show(
        _draw_once(curve_figure, results, view.recovery, view.budget, view.methods, others),
        title=title,
        help="Each line is a method, in the colours of the chart above; its name stands at its end. **Bands** are 95 % "
        f"intervals for other {results.noun} and seeds; the tooltip shows those of grey lines. Lines between the "
        "measured numbers of heads are interpolated.",
        formula=_INTERVAL,
        name="compare-curves",
        alt=" ".join(
            f"{method_label(mean.method)} at {mean.budget} heads: {results.estimate(mean).text}." for mean in means[:40]
        ),
        data=means_as_table(means),
    )
    if rejected := results.rejections(view.recovery):
        st.caption(f"{capital(plain(rejected))}. A rejected recovery leaves the pruned model as it was.")


def draw_differences(results: SplitResults, view: ComparisonView) -> None:
    """Draw the tests of differences to the reference."""
    after_recovery = [
        test
        for test in (*results.overall, *results.verdicts)
        if test.recovery == view.recovery and test.method in view.methods
    ]
    tests = [test for test in after_recovery if test.budget == view.budget]
    if not tests:
        st.info("No differences were tested here.")
        return
    ours = method_label(results.against)
    when = after(view.recovery)
    dark = display.is_dark()
    display.show(
        cache_with(results, ("differences", view, dark), lambda: difference_figure(results.against, tests, dark=dark)),
        title=f"Lead of {ours} in {name_outcome(results.outcome)} at {view.budget} heads, {when}",
        help=f"Points are the lead of {ours} over the other method on the same {results.noun}; lines are "
        f"{tests[0].interval_name}s. **Solid** points are significant, **hollow** points are not: more "
        f"{results.noun} or seeds might show a difference. Hollow **diamonds** are equivalent: two one-sided tests "
        f"show a difference below 1 point, or in nats below a tenth of the KL divergence of {ours}. One seed allows no "
        f"verdict. {_RULE}",
        formula=_TEST,
        name="compare-differences",
        alt=" ".join(_sentence(results, test) for test in tests[:30]),
        data=tests_as_table(tests, _TEST_COLUMNS),
    )
    with st.expander(f"All {len(after_recovery)} tests {when}, in words", key="compare-words"):
        ordered = sorted(after_recovery, key=lambda test: (test.tie, test.budget or 0, -abs(test.pp)))
        sentences = [_sentence(results, test) for test in ordered]
        st.markdown("\n".join(f"- {plain(sentence)}" for sentence in sentences))


def tests_as_table(tests: Sequence[Verdict], columns: Sequence[str]) -> dict[str, list[Any]]:
    """Return these fields of tests, and the ends of both their intervals, as columns by name."""
    table: dict[str, list[Any]] = {}
    for name in columns:
        table[name] = [getattr(test, name) for test in tests]
    for name, field in (("", "ci95"), ("simultaneous ", "interval")):
        table[f"{name}low"] = [getattr(test, field)[0] for test in tests]
        table[f"{name}high"] = [getattr(test, field)[1] for test in tests]
    return table


def _sentence(results: SplitResults, test: Verdict) -> str:
    return verdict_sentence(test, results.budgets, noun=results.noun, label=method_label)


def draw_primary(results: SplitResults) -> None:
    """Draw what the primary test is, and its sentences."""
    primary = results.primary
    if primary is None or not primary.tests:
        return
    with st.expander(f"Primary test: {primary.words}", key="compare-primary"):
        st.markdown(
            "A fixed rule selects it from the plan alone. It compares KL divergence after the refit, over all "
            "budgets of up to 20 % of the heads (the area). Without a refit, it compares the pruned models; without "
            "two such budgets, it uses the smallest one. It is corrected over its methods alone. All other tests on "
            "this page are descriptive. The rule was written on 2026-11-29: the primary test of a comparison that was "
            "measured before that day was not fixed in advance."
        )
        st.markdown("\n".join(f"- {plain(_sentence(results, test))}" for test in primary.tests))


# Heads -------------------------------------------------------------------------------------------------------


def draw_layers(results: SplitResults, view: ComparisonView) -> None:
    """Draw how many heads each method keeps in each layer."""
    shown = by_depth(results, view.budget, view.methods)
    if not shown:
        return
    layers = results.document.model.layers
    depths = {name: mean_layer(results.layers[name, view.budget]) for name in shown}
    data: dict[str, Sequence[Any]] = {"method": shown, "mean layer": list(depths.values())}
    for layer in range(layers):
        data[f"layer {layer}"] = [results.layers[name, view.budget][layer] for name in shown]
    display.show(
        _draw_once(layer_figure, results, view.budget, view.methods),
        title=_depth_title(depths, even=(layers - 1) / 2),
        help="Heads that each method keeps in each layer, the mean over its masks. The triangle is their mean layer, "
        "the dashed line that of an even spread; methods nearest the output come first. A method with **proximity "
        "bias** prefers heads near the output or the input because of their position: its row is dark at one end. "
        "The per-layer minimum applies to all methods.",
        formula=_DEPTH,
        name="compare-layers",
        alt=" ".join(f"{method_label(name)}: mean layer {depth:.1f}." for name, depth in depths.items()),
        data=data,
    )


def _depth_title(depths: dict[str, float], *, even: float) -> str:
    last = max(depths, key=lambda name: depths[name])
    first = min(depths, key=lambda name: depths[name])
    if len(depths) == 1:
        return f"{method_label(last)} keeps heads of mean layer {depths[last]:.1f}; an even spread has {even:.1f}"
    if depths[last] - depths[first] < 0.05:
        return f"All keep heads of mean layer {depths[last]:.1f}; an even spread has {even:.1f}"
    return (
        f"{method_label(last)} keeps heads nearest the output (mean layer {depths[last]:.1f}), "
        f"{method_label(first)} nearest the input ({depths[first]:.1f}); an even spread has {even:.1f}"
    )


def draw_consensus(results: SplitResults, view: ComparisonView) -> None:
    """Draw the heads that all methods keep, and that none keeps."""
    consensus = results.consensus.get(view.budget)
    if consensus is None or consensus.methods < 2:
        return
    model = results.document.model
    kept_by = dict.fromkeys(product(range(model.layers), range(model.heads)), "some")
    kept_by |= dict.fromkeys(consensus.nobody, "none")
    kept_by |= dict.fromkeys(consensus.everybody, "all")
    heads = {0: "No head is", 1: "1 head is"}.get(len(consensus.everybody), f"{len(consensus.everybody)} heads are")
    display.show(
        _draw_once(consensus_figure, results, view.budget),
        title=f"{heads} kept by all {consensus.methods} methods, {len(consensus.nobody)} of {results.total} by none",
        help="Each cell is a head; its number is the share of methods that keep it, in per cent, over all their masks. "
        "**Framed**: every method keeps it with every seed. **×**: none ever does. Random selection is left out, "
        "and the filter of methods does not apply.",
        name="compare-consensus",
        alt=f"Kept by all: {_list_heads(consensus.everybody)}. Kept by none: {_list_heads(consensus.nobody)}.",
        data={
            **places(model.layers, model.heads),
            "share of methods": [float(share) for row in consensus.share for share in row],
            "kept by": list(kept_by.values()),
        },
    )


def _list_heads(heads: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"layer {layer} head {head}" for layer, head in heads[:40]) or "none"


def draw_overlap(results: SplitResults, view: ComparisonView) -> None:
    """Draw the overlap of every two methods."""
    table = overlap_table(results, view.budget, view.methods)
    mean = mean_overlap(table)
    if np.isnan(mean):
        return
    random = results.random_overlap[view.budget]
    pairs = table.astype(object).where(table.notna(), None).stack()
    data = {
        "method": pairs.index.get_level_values(0).tolist(),
        "other": pairs.index.get_level_values(1).tolist(),
        "overlap": pairs.tolist(),
        "random selection": [random] * len(pairs),
    }
    spoken = []
    for first, second in combinations_with_replacement(table.index[:_SPOKEN_METHODS], 2):
        if pairs[first, second] is not None:
            spoken.append(f"{method_label(first)} and {method_label(second)}: {pairs[first, second]:.2f}.")
    display.show(
        _draw_once(overlap_figure, results, view.budget, view.methods),
        title=f"Two methods share {percent(mean, 0)} of their heads on average; random selection {percent(random, 0)}",
        help="The Jaccard index: heads that both methods keep, divided by heads that at least one keeps, for masks of "
        f"the same seed, mean over seeds. At {view.budget} of {results.total} heads, two random masks share "
        f"{random:.2f} on average: the colour scale starts there, and ↓ marks less. The diagonal compares a method "
        "with itself with another seed. Empty cells were not measured.",
        formula=_JACCARD,
        name="compare-overlap",
        alt=" ".join(spoken),
        data=data,
    )


# Costs and files ---------------------------------------------------------------------------------------------


def draw_costs(results: SplitResults, view: ComparisonView) -> None:
    """Draw the cost of each method, beside its outcome."""
    shown = [name for name in view.methods if name in results.cost]
    if not shown:
        return
    table = cost_table(results, shown, view.recovery)
    areas = [results.areas[view.recovery, name] for name in shown if (view.recovery, name) in results.areas]
    averaged = results.budgets
    formula = None
    if areas:
        averaged = areas[0].budgets
        formula = _AREA
    budgets = over(averaged, results.budgets)
    formats = {
        "Forward passes": st.column_config.NumberColumn(format="localized"),
        "Labels": st.column_config.NumberColumn(format="localized"),
    }
    for name in table:
        if name.endswith("(s)"):
            formats[name] = st.column_config.NumberColumn(format="%.2f")
    with st.container(key="figure-compare-cost"):
        display.heading(
            _cost_title(results, shown),
            help="A **forward pass** is one text through the full model (a backward pass counts as two), as if nothing "
            "were cached: use it to compare methods. **Seconds** are the time for the costliest budget, without "
            "measurements that another method had made before. They are means over **n** seeds or masks, without an "
            "interval, and depend on the machine. **Labels** is the number of labelled texts that a "
            f"method needs. **{capital(name_outcome(results.outcome))}** is the mean {budgets} "
            f"{after(view.recovery)} (the area under the line of the first chart, divided by its width), with its 95 % "
            "interval, for methods measured at all of them. **Own overlap** is the Jaccard index of the masks that a "
            "method keeps with different seeds.",
            formula=formula,
            name="compare-cost",
            data=table,
        )
        st.dataframe(
            table,
            hide_index=True,
            height="content",
            column_config=formats,
        )


def cost_table(results: SplitResults, shown: Sequence[str], recovery: str) -> dict[str, list[Any]]:
    """Cost and outcome after a recovery of each method, column by column."""
    costs = [results.cost[name] for name in shown]
    table: dict[str, list[Any]] = {"Method": [method_label(name) for name in shown]}
    column = capital(name_outcome(results.outcome))
    budgets = results.budgets_after(recovery)
    if any((recovery, name) in results.areas for name in shown):
        areas = [results.areas.get((recovery, name)) for name in shown]
        table[column] = ["some budgets only" if area is None else _describe(area.estimate) for area in areas]
    elif len(budgets) == 1:
        means = [results.means.get((recovery, name, budgets[0])) for name in shown]
        cells = ["not measured" if mean is None else _describe(results.estimate(mean)) for mean in means]
        table[f"{column} at {budgets[0]} heads"] = cells
    table["Own overlap"] = [results.own_overlap(name) for name in shown]
    table["Forward passes"] = [None if cost.forwards is None else round(cost.forwards) for cost in costs]
    table["Labels"] = [cost.labels for cost in costs]
    # Seconds are means without an interval, so the number of seeds or masks stands beside them.
    table["Selecting (s)"] = [cost.score_s for cost in costs]
    measured = results.table
    table["n (seeds)"] = measured.groupby("method")["seeds"].max().reindex(shown, fill_value=0).tolist()
    for other in results.by_cost:
        if other != "none":
            noun = RECOVERIES[other].noun
            masks = measured[measured["recovery"] == other].groupby("method")["masks"].sum()
            table[f"{noun.capitalize()} (s)"] = [cost.recovery_s.get(other) for cost in costs]
            table[f"n ({noun})"] = masks.reindex(shown, fill_value=0).tolist()
    return table


def _describe(estimate: Estimate) -> str:
    return f"{estimate.text} ({estimate.span})"


def _cost_title(results: SplitResults, shown: Sequence[str]) -> str:
    passes = {name: forwards for name in shown if (forwards := results.cost[name].forwards) is not None}
    if not passes:
        return "These methods do not state their cost"
    costliest = max(passes, key=lambda name: passes[name])
    free = sum(not forwards for forwards in passes.values())
    title = f"{method_label(costliest)} is the costliest: {passes[costliest]:,.0f} forward passes"
    if free == 1:
        title += "; 1 method needs none"
    elif free:
        title += f"; {free} methods need none"
    return title


def draw_downloads(comparison: Comparison) -> None:
    """Draw the buttons that download the comparison, and its command."""
    files = [
        ("Document (JSON)", "compare.json", "application/json"),
        ("Table (CSV)", "comparison.csv", "text/csv"),
    ]
    if comparison.answers:
        files.append(("Answers (NPZ)", "compare.npz", "application/octet-stream"))
    with st.container(horizontal=True, key="compare-downloads", gap="small", vertical_alignment="center"):
        st.markdown("**Download:**", width="content")
        for label, file, media in files:
            write = partial(lambda name: comparison.files[name], file)
            display.download(label, write, file, media, key=f"compare-get-{file}")
    command = comparison.document.command
    if command:
        with st.expander("Command", key="compare-command"):
            st.code(command[:2000], language="bash", wrap_lines=True)
