"""What a comparison shows, as blocks: for the explorer, the terminal, notebooks and the page of a static host.

``SECTIONS`` are its parts by name. Each shows the results in one outcome, after the recovery, at the number of heads
and for the methods of the ``Filters``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cahp.comparison import Comparison, SplitResults
from cahp.comparison.claims import (
    COMPRESSION,
    CRITICAL,
    assess_compression,
    assess_critical_heads,
    compression_tests,
    kept_shares,
)
from cahp.comparison.document import Mean, Verdict, means_as_table
from cahp.comparison.result import mean_layer
from cahp.comparison.sentences import (
    after,
    ahead_and_behind,
    describe_p,
    describe_test,
    describe_tie,
    headline,
    method_label,
    name_outcome,
    over,
)
from cahp.figures.comparison import curve_figure, difference_figure, ranking_figure
from cahp.figures.comparison_heads import (
    by_depth,
    consensus_figure,
    criticality_figure,
    layer_figure,
    mean_overlap,
    overlap_figure,
    overlap_table,
)
from cahp.figures.head_grid import places
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, RECOVERIES
from cahp.show.blocks import Block, Cell, Claim, Figure, Line, Table, Text
from cahp.words import capital, counted, percent

_INTERVAL = (
    r"\bar a\pm t_{\nu}\sqrt{\frac{A+B-E}{S\,n}},\quad "
    r"\nu=\frac{(A+B-E)^2}{\frac{A^2}{S-1}+\frac{B^2}{n-1}+\frac{E^2}{(S-1)(n-1)}}"
)
_TEST = r"t=\bar\Delta\Big/\sqrt{\frac{A+B-E}{S\,n}}\text{ of paired differences }\Delta_{s,i}"
_DEPTH = r"\bar\ell=\frac{\sum_{\ell}\ell\,k_\ell}{\sum_{\ell}k_\ell},\qquad \text{even spread: }\frac{L-1}{2}"
_JACCARD = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{2k-i},\quad "
    r"P=\text{hypergeometric}(N,k,k)"
)
_SHARE = r"\frac{\sum_{h\in\ell,\ h\text{ kept}}c_h}{\sum_{h\in\ell}c_h},\qquad c_h=\mathrm{KL}(p\,\|\,p_{-h})"


@dataclass(frozen=True)
class Filters:
    """Which results of a comparison are shown: one ``outcome``, recovery and number of heads, and these methods."""

    outcome: str
    recovery: str
    budget: int
    methods: tuple[str, ...]


def show_comparison(comparison: Comparison) -> Iterator[Block]:
    """Yield all of a comparison, where there are no filters: every outcome, recovery and number of heads."""
    results = comparison.results
    document = comparison.document
    masks = counted(len(document.cells), "mask")
    yield Text(f"{results.title}, {masks}, {counted(len(document.seeds), 'seed')}")
    yield from show_primary(results)
    methods = tuple(sorted(results.methods, key=lambda name: name != results.against))
    for part in reversed(document.parts):
        for outcome in results.outcomes:
            shown = comparison.results_on(part, outcome)
            for recovery in results.recoveries:
                yield show_means(shown, recovery)
                if outcome == "nll":
                    yield show_means(shown, recovery, "perplexity")
                for budget in shown.budgets_after(recovery):
                    yield from show_ranking(shown, Filters(outcome, recovery, budget, methods))
                if rejected := shown.rejections(recovery):
                    yield Text(rejected)
    for finding in comparison.claims:
        yield Line(f"{finding.claim}: {finding.status}. {finding.words}".removesuffix("."))
    for budget in results.budgets:
        yield from show_heads(results, Filters(results.outcome, NONE.name, budget, methods))
    yield from show_costs(results, Filters(results.outcome, results.by_cost[-1], results.budgets[0], methods))
    yield from show_notes(results)


# The outcome -------------------------------------------------------------------------------------------------


def show_primary(results: SplitResults) -> Iterator[Block]:
    """Yield the primary test: its finding, the rule that selects it, and its statistics."""
    yield Line(headline(results))
    primary = results.primary
    if primary is not None and primary.tests:
        yield Text(
            "A fixed rule selects the primary test from the plan alone. It compares KL divergence after the refit, "
            "over all budgets of up to 20 % of the heads (the area). Without a refit, it compares the pruned models; "
            "without two such budgets, it uses the smallest one. It is corrected over its methods alone. All other "
            "tests are descriptive. The rule was written on 2026-11-29: the primary test of a comparison that was "
            "measured before that day was not fixed in advance."
        )
        yield _tabulate_tests("Primary test, by method", results, primary.tests, "compare-primary")


def _tabulate_tests(title: str, results: SplitResults, tests: Iterable[Verdict], name: str) -> Table:
    """Return tests with their statistics as a table, the significant ones first."""
    rows = []
    for test in sorted(tests, key=lambda test: (test.tie, test.budget or 0, -abs(test.pp))):
        result = "no verdict"
        if test.better is not None:
            result = f"{method_label(test.better)} is better"
        elif test.tested:
            result = describe_tie(test, results.noun)
        place = describe_test(test, results.budgets)
        rows.append((method_label(test.method), place, test.lead, test.span, describe_p(test), result))
    interval = "interval"
    if rows:
        interval = next(iter(tests)).interval_name
    lead = f"lead of {method_label(results.against)}"
    return Table(title, ("method", "where", lead, interval, "p after Holm", "result"), rows, name)


def show_means(results: SplitResults, recovery: str, outcome: str = "") -> Table:
    """Return an outcome of every method at every number of heads after a recovery.

    Another ``outcome`` than that of the results has no areas.
    """
    own = outcome in ("", results.outcome)
    row = OUTCOMES[outcome or results.outcome]
    title = f"{capital(row.label)} on {results.split} {after(recovery)}, n = {results.n:,} {results.noun}"
    if own and not row.difference:
        title += f", all heads {results.full_text()}"
    if own and recovery != NONE.name and recovery in results.full:
        title += f", all heads {after(recovery)} {results.full_text(recovery)}"
    budgets = results.budgets_after(recovery)
    columns = ["method", *(f"{budget} heads" for budget in budgets)]
    areas = {method: area for (how, method), area in results.areas.items() if own and how == recovery}
    if areas:
        covered = next(iter(areas.values())).budgets
        columns.append(f"area {covered[0]}-{covered[-1]} heads")
    rows = []
    for method in results.methods:
        cells: list[Cell] = [method_label(method)]
        for budget in budgets:
            mean = results.means.get((recovery, method, budget))
            if mean is None:
                cells.append(None)
            else:
                cells.append(mean.outcomes.get(row.name))
        if method in areas:
            cells.append(areas[method].estimate)
        elif areas:
            cells.append(None)
        rows.append(cells)
    return Table(title, columns, rows, "compare-means")


def show_ranking(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the methods at a number of heads, the best on top."""
    means = [mean for mean in results.rank(filters.recovery, filters.budget) if mean.method in filters.methods]
    if not means:
        yield Text("None of these methods was measured after this recovery at this number of heads. Select others.")
        return
    ours = method_label(results.against)
    when = after(filters.recovery)
    seeds = counted(len(results.document.seeds), "seed")
    # The title covers all methods, whichever are shown.
    tests = results.tests_at(filters.recovery, filters.budget)
    finding = ahead_and_behind(results.against, tests, noun=results.noun)
    yield Figure(
        f"At {filters.budget} heads, {when}, {finding}",
        partial(_draw, ranking_figure, results, filters.recovery, filters.budget, filters.methods),
        f"{capital(OUTCOMES[results.outcome].label)} on {results.n:,} evaluation {results.noun}, the mean over "
        f"{seeds}. Dots: as pruned. Rings: after a recovery. Order, numbers and 95 % intervals are those {when}. The "
        f"methods in colour are {ours}, the best other one, and random selection, whose interval is the band. Pale: "
        f"the difference from {ours} is not significant. Intervals can overlap although a difference is significant, "
        f"because all methods are evaluated on the same {results.noun}. The dashed line is the full model. A name "
        "that ends with -min-N is that method with at least N heads in each layer, 0 for no minimum. Each seed has "
        "calibration texts of its own; the Budget page shows one choice, so its numbers differ.",
        means_as_table(means),
        name="compare-ranking",
        formula=_INTERVAL,
        alt=_speak(results, means),
    )


def _draw(figure: Callable[..., Any], *arguments: Any) -> Any:
    """Draw a figure; the last argument tells whether the page is dark."""
    *others, dark = arguments
    return figure(*others, dark=dark)


def _speak(results: SplitResults, means: Sequence[Mean]) -> str:
    """Say means for a screen reader."""
    return " ".join(
        f"{method_label(mean.method)} at {mean.budget} heads: {results.estimate(mean).text}." for mean in means[:40]
    )


def show_curve(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the outcome by method and number of heads; with a single number the ranking shows it."""
    means = [
        mean for mean in results.means.values() if mean.recovery == filters.recovery and mean.method in filters.methods
    ]
    if means and len(results.budgets_after(filters.recovery)) > 1:
        others = tuple(name for name in results.methods if name not in filters.methods)
        yield Figure(
            f"{capital(name_outcome(results.outcome))} by number of heads, {after(filters.recovery)}",
            partial(_draw, curve_figure, results, filters.recovery, filters.budget, filters.methods, others),
            "Each line is a method, in the colours of the ranking; its name stands at its end. Bands are 95 % "
            f"intervals for other {results.noun} and seeds; the tooltip shows those of grey lines. Lines between the "
            "measured numbers of heads are interpolated.",
            means_as_table(means),
            name="compare-curves",
            formula=_INTERVAL,
            alt=_speak(results, means),
        )
    if rejected := results.rejections(filters.recovery):
        yield Text(f"{capital(rejected)}. A rejected recovery leaves the pruned model as it was.")


def show_differences(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the tests of differences to the reference."""
    every = [
        test
        for test in (*results.overall, *results.verdicts)
        if test.recovery == filters.recovery and test.method in filters.methods
    ]
    tests = [test for test in every if test.budget == filters.budget]
    if not tests:
        yield Text("No differences were tested here.")
        return
    ours = method_label(results.against)
    when = after(filters.recovery)
    yield Figure(
        f"Lead of {ours} in {name_outcome(results.outcome)} at {filters.budget} heads, {when}",
        partial(_draw, difference_figure, results.against, tests),
        f"Points are the lead of {ours} over the other method on the same {results.noun}; lines are "
        f"{tests[0].interval_name}s. Solid points are significant, hollow points are not: more {results.noun} or "
        "seeds might show a difference. Hollow diamonds are equivalent: two one-sided tests show a difference below "
        f"1 point, or in nats below a tenth of the KL divergence of {ours}. One seed allows no verdict. The test is a "
        "paired t test with variance components of both, and seeds − 1 degrees of freedom. p is corrected by Holm "
        "over all budgets and methods after this recovery, and the intervals by Bonferroni. If an interval excludes "
        "0, its p is at most 0.05; Holm's p can also be below 0.05 although the interval contains 0.",
        _list_tests(tests),
        name="compare-differences",
        formula=_TEST,
    )
    yield _tabulate_tests(f"All {len(every)} tests {when}", results, every, "compare-tests")


def _list_tests(tests: Sequence[Verdict]) -> dict[str, list[Any]]:
    """Return the numbers of tests as columns by name, with the ends of both their intervals."""
    table: dict[str, list[Any]] = {}
    for name in ("outcome", "method", "against", "budget", "recovery", "pp", "unit", "p", "p_holm", "n", "seeds"):
        table[name] = [getattr(test, name) for test in tests]
    for name, field in (("", "ci95"), ("simultaneous ", "interval")):
        table[f"{name}low"] = [getattr(test, field)[0] for test in tests]
        table[f"{name}high"] = [getattr(test, field)[1] for test in tests]
    return table


# Heads -------------------------------------------------------------------------------------------------------


def show_layers(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield how many heads each method keeps in each layer."""
    depths = {}
    for name in by_depth(results, filters.budget, filters.methods):
        depths[method_label(name)] = mean_layer(results.layers[name, filters.budget])
    if not depths:
        return
    layers = results.document.model.layers
    first = min(depths, key=lambda name: depths[name])
    last = max(depths, key=lambda name: depths[name])
    title = f"{last} keeps those nearest the output (mean layer {depths[last]:.1f}), "
    title += f"{first} nearest the input ({depths[first]:.1f})"
    if depths[last] - depths[first] < 0.05:
        title = f"all are of mean layer {depths[last]:.1f}"
    shown = by_depth(results, filters.budget, filters.methods)
    data: dict[str, Sequence[Any]] = {"method": shown, "mean layer": list(depths.values())}
    for layer in range(layers):
        data[f"layer {layer}"] = [results.layers[name, filters.budget][layer] for name in shown]
    yield Figure(
        f"Of {filters.budget} heads kept, {title}; an even spread has {(layers - 1) / 2:.1f}",
        partial(_draw, layer_figure, results, filters.budget, filters.methods),
        "Heads that each method keeps in each layer, the mean over its masks. The triangle is their mean layer, the "
        "dashed line that of an even spread; methods nearest the output come first. A method with proximity bias "
        "prefers heads near the output or the input because of their position: its row is dark at one end. The "
        "per-layer minimum applies to all methods.",
        data,
        name="compare-layers",
        formula=_DEPTH,
        alt=" ".join(f"{name}: mean layer {depth:.1f}." for name, depth in depths.items()),
    )


def show_overlap(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the overlap of every two methods, and the heads that all methods keep, or none."""
    table = overlap_table(results, filters.budget, filters.methods)
    mean = mean_overlap(table)
    if not np.isnan(mean):
        random = results.random_overlap[filters.budget]
        pairs = table.astype(object).where(table.notna(), None).stack()
        yield Figure(
            f"Two methods share {percent(mean, 0)} of their {filters.budget} heads on average; random selection "
            f"{percent(random, 0)}",
            partial(_draw, overlap_figure, results, filters.budget, filters.methods),
            "The Jaccard index: heads that both methods keep, divided by heads that at least one keeps, for masks of "
            f"the same seed, mean over seeds. At {filters.budget} of {results.total} heads, two random masks share "
            f"{random:.2f} on average: the colour scale starts there, and ↓ marks less. The diagonal compares a "
            "method with itself with another seed. Empty cells were not measured.",
            {
                "method": pairs.index.get_level_values(0).tolist(),
                "other": pairs.index.get_level_values(1).tolist(),
                "overlap": pairs.tolist(),
                "random selection": [random] * len(pairs),
            },
            name="compare-overlap",
            formula=_JACCARD,
        )
    consensus = results.consensus.get(filters.budget)
    if consensus is not None and consensus.methods > 1:
        kept_by = np.full(np.shape(consensus.share), "some", dtype=object)
        for heads, word in ((consensus.nobody, "none"), (consensus.everybody, "all")):
            for layer, head in heads:
                kept_by[layer, head] = word
        yield Figure(
            f"{counted(len(consensus.everybody), 'head')} kept by all {consensus.methods} methods, "
            f"{len(consensus.nobody)} of {results.total} by none",
            partial(_draw, consensus_figure, results, filters.budget),
            "Each cell is a head; its number is the share of methods that keep it, in per cent, over all their masks. "
            "Framed: every method keeps it with every seed. ×: none ever does. Random selection is left out, and the "
            "filter of methods does not apply.",
            {
                **places(*kept_by.shape),
                "share of methods": np.ravel(consensus.share).tolist(),
                "kept by": kept_by.ravel().tolist(),
            },
            name="compare-consensus",
        )


def show_heads(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield which heads the methods keep."""
    yield from show_layers(results, filters)
    yield from show_overlap(results, filters)


# Costs and rules ---------------------------------------------------------------------------------------------


def show_costs(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the cost of each method, beside its outcome after the recovery."""
    shown = [name for name in filters.methods if name in results.cost]
    passes = {name: results.cost[name].forwards or 0 for name in shown}
    if not shown:
        return
    costliest = max(passes, key=lambda name: passes[name])
    free = sum(results.cost[name].forwards == 0 for name in shown)
    yield Line(
        f"{method_label(costliest)} is the costliest: {passes[costliest]:,.0f} forward passes; "
        f"{counted(free, 'method')} without any"
    )
    recovered = [name for name in results.by_cost if name != NONE.name]
    budgets = results.budgets_after(filters.recovery)
    covered = budgets
    for (recovery, _), area in results.areas.items():
        if recovery == filters.recovery:
            covered = list(area.budgets)
    rows = []
    for name in shown:
        cost = results.cost[name]
        cell: Cell = None
        if (filters.recovery, name) in results.areas:
            cell = results.areas[filters.recovery, name].estimate
        elif len(budgets) == 1 and (mean := results.means.get((filters.recovery, name, budgets[0]))) is not None:
            cell = results.estimate(mean)
        elif len(budgets) > 1:
            cell = "some budgets only"
        forwards = None if cost.forwards is None else round(cost.forwards)
        row: list[Cell] = [method_label(name), cell, results.own_overlap(name), forwards, cost.labels]
        own = [mean for mean in results.means.values() if mean.method == name]
        # Seconds are means without an interval, so the number of seeds or masks stands beside them.
        row += [f"{cost.score_s:.2f}", max((mean.seeds for mean in own), default=0)]
        for recovery in recovered:
            seconds = cost.recovery_s.get(recovery)
            row.append(None if seconds is None else f"{seconds:.2f}")
            row.append(sum(mean.masks for mean in own if mean.recovery == recovery))
        rows.append(row)
    outcome = f"{name_outcome(results.outcome)} {over(covered, results.budgets)}"
    columns = ["method", outcome, "own overlap", "forward passes", "labels", "selecting (s)", "n (seeds)"]
    for recovery in recovered:
        noun = RECOVERIES[recovery].noun
        columns += [f"{noun} (s)", f"n ({noun})"]
    yield Table(f"Costs, and outcome {after(filters.recovery)}", columns, rows, "compare-cost")
    yield Text(
        "A forward pass is one text through the full model (a backward pass counts as two), as if nothing were "
        "cached: use it to compare methods. Seconds are the time for the costliest budget, without measurements that "
        "another method had made before. They are means without an interval, and depend on the machine. Labels is the "
        "number of labelled texts that a method needs. The outcome is the area under the line of a method, divided by "
        "its width, with its 95 % interval. Own overlap is the Jaccard index of the masks that a method keeps with "
        "different seeds."
    )


def show_notes(results: SplitResults, filters: Filters | None = None) -> Iterator[Block]:
    """Yield how differences are tested, and the notices; they are the same for all ``filters``."""
    document = results.document
    if results.verdicts:
        yield Text(results.summary.rule[:1500].replace(results.against, method_label(results.against)))
    if document.test_opened:
        yield Text(f"The test split was opened {counted(document.test_opened, 'time')} for this model.")
    yield from (Text(notice[:400]) for notice in document.notices[:20])


# The paper's claims ------------------------------------------------------------------------------------------


def list_claims(results: SplitResults, filters: Filters) -> list[Claim]:
    """Return the claims of the paper that a comparison tests; ``results`` are those in its first outcome."""
    compression = assess_compression(results, filters.recovery)
    critical = assess_critical_heads(results, filters.budget)

    def show_compression() -> Iterator[Block]:
        yield Text(compression.words)
        tests = compression_tests(results, filters.recovery)
        yield _tabulate_tests("The tests that decide, by method", results, tests, "claim-compression")

    def show_critical() -> Iterator[Block]:
        yield Text(critical.words)
        shares = kept_shares(results.document, filters.budget)
        if shares.empty:
            yield Text("A new `cahp compare` measures it.")
            return
        means = shares.drop(columns=["seed", "middle", "all"]).groupby("method", sort=False).mean().stack()
        yield Figure(
            "Criticality kept in each layer",
            partial(_draw, criticality_figure, results, shares, filters.budget, filters.methods),
            "The criticality of a head is the KL divergence from the full model when this head alone is removed. Each "
            f"line is the share of a layer's criticality that a method keeps at {filters.budget} heads, the mean over "
            "its masks. The band holds 95 % of the random masks. The middle third of the layers is shaded; t tests "
            f"over seeds compare {method_label(results.against)} with random selection and every other method there, "
            "with p corrected by Holm.",
            {
                "method": means.index.get_level_values(0).tolist(),
                "layer": means.index.get_level_values(1).tolist(),
                "share of criticality": means.tolist(),
            },
            name="claim-criticality",
            formula=_SHARE,
            alt=critical.words,
        )

    return [
        Claim("compression", COMPRESSION, compression.status, show_compression),
        Claim("criticality", CRITICAL, critical.status, show_critical),
    ]


#: The parts of a comparison below its two charts, by the label of their tab.
SECTIONS: Mapping[str, Callable[[SplitResults, Filters], Iterable[Block]]] = {
    "Differences": show_differences,
    "Layers": show_layers,
    "Overlap": show_overlap,
    "Costs": show_costs,
    "How it is tested": show_notes,
}
