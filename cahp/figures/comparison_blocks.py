"""What a comparison shows, as blocks: for the explorer, the terminal, notebooks and the page of a static host.

``SECTIONS`` are its parts by name. Each shows the results in one outcome, after the recovery, at the number of heads
and for the methods of the ``Filters``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from cahp.comparison import Comparison, SplitResults
from cahp.comparison.claims import (
    COMPRESSION,
    CRITICAL,
    assess_compression,
    assess_critical_heads,
    compare_shares,
    compression_tests,
    kept_shares,
)
from cahp.comparison.sentences import (
    ahead_and_behind,
    describe_p,
    describe_result,
    headline,
    list_heads,
    method_label,
    name_outcome,
)
from cahp.comparison.statistics import Verdict
from cahp.comparison.summary import Mean, measure_overlaps
from cahp.figures.comparison import curve_figure, ranking_figure
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, RECOVERIES
from cahp.show.blocks import Block, Blocks, Cell, Claim, Figure, Line, Table, Text
from cahp.values import Bools, Names
from cahp.values.statistics import jaccard
from cahp.words import capital, counted, percent

_INTERVAL = r"\bar a\pm t_{S-1}\sqrt{\frac{A+B-E}{S\,n}}"


@dataclass(frozen=True)
class Filters:
    """Which results of a comparison are shown: one ``outcome``, recovery and number of heads, and these methods."""

    outcome: str
    recovery: str
    budget: int
    methods: Names


def show_comparison(comparison: Comparison) -> Blocks:
    """Yield all of a comparison, where there are no filters: every outcome, recovery and number of heads."""
    results = comparison.results
    document = comparison.document
    masks = counted(len(document.cells), "mask")
    yield Text(f"{results.title}, {masks}")
    yield from show_primary(results)
    for part in reversed(document.parts):
        for outcome in results.outcomes:
            shown = comparison.results_on(part, outcome)
            for recovery in document.recoveries:
                yield show_means(shown, recovery)
                if outcome == "nll":
                    yield show_means(shown, recovery, "perplexity")
                for budget in shown.budgets_after(recovery):
                    yield Text(_describe_tests(shown, recovery, budget))
    for finding in comparison.claims:
        yield Line(f"{finding.claim}: {finding.status}. {finding.words}".removesuffix("."))
    filters = Filters(results.outcome, NONE.name, results.budgets[0], tuple(results.methods))
    yield from show_costs(results, filters)
    yield from show_notes(results, None)


# The outcome -------------------------------------------------------------------------------------------------


def show_primary(results: SplitResults) -> Blocks:
    """Yield the primary test: its finding, the rule that selects it, and its statistics."""
    yield Line(headline(results))
    if results.primary is not None:
        yield Text(
            "A fixed rule selects the primary test from the plan alone. It compares KL divergence after the refit, "
            "over all budgets of up to 20 % of the heads (the area). Without a refit, it compares the pruned models; "
            "without two such budgets, it uses the smallest one. It is corrected over its methods alone. All other "
            "tests are descriptive. The rule was written on 2026-11-29: the primary test of a comparison that was "
            "measured before that day was not fixed in advance."
        )
        yield _tabulate_tests("Primary test, by method", results, results.primary.tests, "compare-primary")


def _tabulate_tests(title: str, results: SplitResults, tests: Iterable[Verdict], name: str) -> Table:
    """Return tests with their statistics as a table, the significant ones first."""
    rows = []
    for test in sorted(tests, key=lambda test: (test.tie, test.budget or 0, -abs(test.pp))):
        where = f"{list_heads(test.budgets)} {results.units}"
        result = describe_result(test, results.noun)
        rows.append((method_label(test.method), where, test.lead, describe_p(test.p_holm), result))
    unit = ", nats" if OUTCOMES[results.outcome].unit == "nats" else ""
    lead = f"lead of {method_label(results.against)}{unit}, simultaneous 95 % interval"
    return Table(title, ("method", "where", lead, "p after Holm", "result"), rows, name)


def show_means(results: SplitResults, recovery: str, outcome: str = "") -> Table:
    """Return an outcome of every method at every number of heads after a recovery, with 95 % intervals.

    Another ``outcome`` than that of the results has no areas.
    """
    row = OUTCOMES[outcome or results.outcome]
    title = f"{capital(row.label)} on {results.split} {RECOVERIES[recovery].beside}, n = {results.n:,} {results.noun}"
    if not (outcome or row.difference):
        title += f", all {results.units} {results.full_text()}"
    budgets = results.budgets_after(recovery)
    columns = ["method", *(f"{budget} {results.units}" for budget in budgets)]
    areas = {method: one.estimate for (how, method), one in results.areas.items() if how == recovery and not outcome}
    if areas:
        columns.append(list_heads(results.areas[recovery, next(iter(areas))].budgets))
    rows = []
    for method in results.methods:
        means = [results.means.get((recovery, method, budget)) for budget in budgets]
        cells = [None if mean is None else mean.outcomes.get(row.name) for mean in means]
        if areas:
            cells.append(areas.get(method))
        rows.append([method_label(method), *cells])
    return Table(title, columns, rows, "compare-means")


def list_means(means: Iterable[Mean]) -> dict[str, list[Any]]:
    """Return means as columns by name: each outcome with the ends of its interval (``kl``, ``kl_low``, ``kl_high``)."""
    rows = []
    for mean in means:
        row = {"recovery": mean.recovery, "method": mean.method, "budget": mean.budget}
        for name, estimate in mean.outcomes.items():
            row[name] = estimate.value
            if estimate.ci95 is not None:
                row[f"{name}_low"], row[f"{name}_high"] = estimate.ci95
            row["n"] = estimate.n
        rows.append({**row, "seeds": mean.seeds, "masks": mean.masks, "rejected": mean.rejected})
    frame = pd.DataFrame(rows, dtype=object)
    return dict(frame.where(frame.notna(), None).to_dict("list"))


def _describe_tests(results: SplitResults, recovery: str, budget: int) -> str:
    """The finding at a number of heads; it covers all methods, whichever are shown."""
    finding = ahead_and_behind(results.against, results.tests_at(recovery, budget), noun=results.noun)
    return f"At {budget} {results.units}, {RECOVERIES[recovery].beside}, {finding}"


def show_ranking(results: SplitResults, filters: Filters) -> Blocks:
    """Yield the methods at a number of heads, the best on top."""
    means = [mean for mean in results.rank(filters.recovery, filters.budget) if mean.method in filters.methods]
    if not means:
        yield Text("None of these methods was measured after this recovery at this number of heads. Select others.")
        return
    yield Figure(
        _describe_tests(results, filters.recovery, filters.budget),
        lambda dark: ranking_figure(results, filters.recovery, filters.budget, filters.methods, dark=dark),
        f"{capital(OUTCOMES[results.outcome].label)} on {results.n:,} evaluation {results.noun}, the mean over "
        f"{counted(len(results.document.seeds), 'seed')}, with 95 % intervals. In colour are the reference, "
        "the best other one, and random selection, whose interval is the band. Pale: the difference from the reference "
        "is not significant. Intervals can overlap although a difference is significant, because all methods are "
        "evaluated on the same texts. The dashed line is the full model. A name that ends with -min-N is that method "
        "with at least N heads in each layer. Each seed has calibration texts of its own, so the numbers of the Budget "
        "page differ.",
        list_means(means),
        name="compare-ranking",
        formula=_INTERVAL,
    )


def show_curve(results: SplitResults, filters: Filters) -> Blocks:
    """Yield the outcome by method and number of heads; with a single number the ranking shows it."""
    means = [
        mean for mean in results.means.values() if mean.recovery == filters.recovery and mean.method in filters.methods
    ]
    when = RECOVERIES[filters.recovery].beside
    if means and len(results.budgets_after(filters.recovery)) > 1:
        yield Figure(
            f"{capital(name_outcome(results.outcome))} by number of {results.units}, {when}",
            lambda dark: curve_figure(results, filters.recovery, filters.budget, filters.methods, dark=dark),
            "Each line is a method, in the colours of the ranking. Bars are 95 % intervals; the tooltip names grey "
            "lines and their intervals.",
            list_means(means),
            name="compare-curves",
            formula=_INTERVAL,
        )
    rejected = sum(mean.rejected or 0 for mean in means)
    if rejected:
        yield Text(
            f"Recoveries rejected on held-out texts, which leave the pruned model as it was: {rejected} of "
            f"{sum(mean.masks for mean in means)}."
        )


def show_differences(results: SplitResults, filters: Filters) -> Blocks:
    """Yield the tests of differences to the reference."""
    every = [test for test in results.tests if test.recovery == filters.recovery and test.method in filters.methods]
    when = RECOVERIES[filters.recovery].beside
    yield _tabulate_tests(f"All {len(every)} tests {when}", results, every, "compare-tests")


# Costs and rules ---------------------------------------------------------------------------------------------


def show_heads(results: SplitResults, filters: Filters) -> Blocks:
    """Yield how many heads of each layer the methods keep at a number of heads, and how alike their masks are."""
    document = results.document
    masks: dict[str, dict[int, list[Bools]]] = {}
    for cell in document.cells:
        if cell.error is None and cell.budget["attained"] == filters.budget and cell.method in filters.methods:
            masks.setdefault(cell.method, {}).setdefault(cell.seed, []).append(document.mask(cell))
    layers = []
    alike = []
    for method, by_seed in masks.items():
        label = method_label(method)
        every = [mask for group in by_seed.values() for mask in group]
        counts = np.mean([mask.sum(axis=1) for mask in every], axis=0)
        layers.append([label, *(f"{count:.1f}" for count in counts)])
        row: list[Cell] = [label]
        for other, theirs in masks.items():
            shared = []
            for seed in by_seed.keys() & theirs.keys():
                shared += [jaccard(*pair) for pair in product(by_seed[seed], theirs[seed])]
            row.append(f"{np.mean(shared):.2f}" if shared and other != method else None)
        alike.append(row)
    own = []
    for pair in measure_overlaps(document):
        if pair["budget"] == filters.budget and pair["method"] in filters.methods:
            values = f"{pair['jaccard']:.2f}", f"{pair['chance']:.2f}"
            own.append((method_label(pair["method"]), *values, pair["pairs"]))
    title = f"{capital(results.units)} kept by layer, of {filters.budget}, mean over masks"
    yield Table(title, ["method", *map(str, range(document.model.layers))], layers, "compare-layers")
    title = "Overlap of two methods with the same seed"
    yield Table(title, ["method", *map(method_label, masks)], alike, "compare-alike")
    yield Table("Overlap of a method's own masks", ("method", "overlap", "by chance", "pairs"), own, "compare-overlap")
    yield Text(
        f"Overlap is the mean Jaccard index: the share of {results.units} that two masks keep, of all of theirs."
    )


def show_costs(results: SplitResults, filters: Filters) -> Blocks:
    """Yield the cost of each method."""
    recovered = [name for name in results.by_cost if name != NONE.name]
    rows = []
    for cost in results.summary.cost:
        if cost.method in filters.methods:
            forwards = None if cost.forwards is None else round(cost.forwards)
            seconds = [cost.score_s, *(cost.recovery_s.get(recovery) for recovery in recovered)]
            times = [None if one is None else f"{one:.2f}" for one in seconds]
            rows.append((method_label(cost.method), forwards, cost.labels, *times))
    columns = ["method", "forward passes", "labels", "selecting (s)"]
    columns += [f"{RECOVERIES[name].noun} (s)" for name in recovered]
    yield Table(f"Costs, mean over {counted(len(results.document.seeds), 'seed')}", columns, rows, "compare-cost")
    yield Text(
        "A forward pass is one text through the full model (a backward pass counts as two), as if nothing were "
        "cached: use it to compare methods. Seconds are the time for the costliest budget, without measurements that "
        "another method had made before, and depend on the machine. Labels is the number of labelled texts that a "
        "method needs."
    )


def show_notes(results: SplitResults, filters: Filters | None) -> Blocks:
    """Yield how differences are tested, and the notices; they are the same for all ``filters``."""
    document = results.document
    yield Text(results.summary.rule.replace(results.against, method_label(results.against)))
    if document.test_opened:
        yield Text(f"The test split was opened {counted(document.test_opened, 'time')} for this model.")
    yield from map(Text, document.notices)


# The paper's claims ------------------------------------------------------------------------------------------


def list_claims(results: SplitResults, filters: Filters) -> list[Claim]:
    """Return the claims of the paper that a comparison tests; ``results`` are those in its first outcome."""
    compression = assess_compression(results, filters.recovery)
    critical = assess_critical_heads(results, filters.budget)

    def show_compression() -> Blocks:
        yield Text(compression.words)
        tests = compression_tests(results, filters.recovery)
        yield _tabulate_tests("The tests that decide, by method", results, tests, "claim-compression")

    def show_critical() -> Blocks:
        yield Text(critical.words)
        shares, leads = compare_shares(kept_shares(results.document, filters.budget), results.against)
        rows = []
        for method, share in shares.items():
            test = leads.get(method)
            row: list[Cell] = [method_label(method), percent(share), None, None]
            if test is not None:
                row[2:] = [test.lead, describe_p(test.p_holm)]
            rows.append(row)
        columns = ("method", "share kept", f"lead of {method_label(results.against)} (95 % interval)", "p after Holm")
        yield Table("Criticality of the middle third", columns, rows, "claim-criticality")
        yield Text(
            "The criticality of a head is the KL divergence from the full model when its output alone is set to zero. "
            "T tests over seeds compare the shares, corrected for all methods."
        )

    return [
        Claim("compression", COMPRESSION, compression.status, show_compression),
        Claim("criticality", CRITICAL, critical.status, show_critical),
    ]


#: The parts of a comparison below its two charts, by the label of their tab.
SECTIONS: Mapping[str, Callable[[SplitResults, Filters], Iterable[Block]]] = {
    "Differences": show_differences,
    "What is kept": show_heads,
    "Costs": show_costs,
    "How it is tested": show_notes,
}
