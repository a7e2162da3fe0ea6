"""What a comparison shows, as blocks: for the explorer, the terminal, notebooks and the page of a static host.

``SECTIONS`` are its parts by name. Each shows the results in one outcome, after the recovery, at the number of heads
and for the methods of the ``Filters``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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
    list_shares,
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
from cahp.comparison.summary import Mean
from cahp.figures.comparison import curve_figure, difference_figure, ranking_figure
from cahp.outcomes import OUTCOMES
from cahp.recoveries import NONE, RECOVERIES
from cahp.show.blocks import Block, Cell, Claim, Figure, Line, Table, Text
from cahp.values import Bools
from cahp.values.statistics import expected_jaccard, jaccard
from cahp.words import capital, counted

_INTERVAL = r"\bar a\pm t_{S-1}\sqrt{\frac{A+B-E}{S\,n}}"
_TEST = r"t=\bar\Delta\Big/\sqrt{\frac{A+B-E}{S\,n}}\text{ of paired differences }\Delta_{s,i}"


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


def show_primary(results: SplitResults) -> Iterator[Block]:
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
        statistics = (test.lead, test.span, describe_p(test.p_holm), describe_result(test, results.noun))
        rows.append((method_label(test.method), f"{list_heads(test.budgets)} {results.units}", *statistics))
    lead = f"lead of {method_label(results.against)}"
    return Table(title, ("method", "where", lead, "simultaneous 95 % interval", "p after Holm", "result"), rows, name)


def show_means(results: SplitResults, recovery: str, outcome: str = "") -> Table:
    """Return an outcome of every method at every number of heads after a recovery, with 95 % intervals.

    Another ``outcome`` than that of the results has no areas.
    """
    row = OUTCOMES[outcome or results.outcome]
    after = RECOVERIES[recovery].beside
    title = f"{capital(row.label)} on {results.split} {after}, n = {results.n:,} {results.noun}"
    if row.name == results.outcome and not row.difference:
        title += f", all {results.units} {results.full_text()}"
    budgets = results.budgets_after(recovery)
    areas = {method: one for (how, method), one in results.areas.items() if how == recovery and not outcome}
    columns = ["method", *(f"{budget} {results.units}" for budget in budgets)]
    if areas:
        columns.append(list_heads(next(iter(areas.values())).budgets))
    rows = []
    for method in results.methods:
        cells: list[Cell] = [method_label(method)]
        for budget in budgets:
            mean = results.means.get((recovery, method, budget))
            cells.append(None if mean is None else mean.outcomes.get(row.name))
        if areas:
            area = areas.get(method)
            cells.append(None if area is None else area.estimate)
        rows.append(cells)
    return Table(title, columns, rows, "compare-means")


def list_means(means: Iterable[Mean]) -> dict[str, list[Any]]:
    """Return means as columns by name: each outcome with the ends of its interval (``kl``, ``kl_low``, ``kl_high``)."""
    rows = []
    for mean in means:
        row: dict[str, Any] = {"recovery": mean.recovery, "method": mean.method, "budget": mean.budget}
        for name, estimate in mean.outcomes.items():
            row[name] = estimate.value
            if estimate.ci95 is not None:
                row[f"{name}_low"], row[f"{name}_high"] = estimate.ci95
            row["n"] = estimate.n
        rows.append({**row, "seeds": mean.seeds, "masks": mean.masks, "rejected": mean.rejected})
    frame = pd.DataFrame(rows, dtype=object)
    return {str(name): column.tolist() for name, column in frame.where(frame.notna(), None).items()}


def _describe_tests(results: SplitResults, recovery: str, budget: int) -> str:
    """The finding at a number of heads; it covers all methods, whichever are shown."""
    finding = ahead_and_behind(results.against, results.tests_at(recovery, budget), noun=results.noun)
    return f"At {budget} {results.units}, {RECOVERIES[recovery].beside}, {finding}"


def _speak(results: SplitResults, means: Iterable[Mean]) -> str:
    """Say means for a screen reader."""
    words = [
        f"{method_label(mean.method)} at {mean.budget} {results.units}: {results.estimate(mean).text}."
        for mean in means
    ]
    return " ".join(words[:40])


def show_ranking(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the methods at a number of heads, the best on top."""
    means = [mean for mean in results.rank(filters.recovery, filters.budget) if mean.method in filters.methods]
    if not means:
        yield Text("None of these methods was measured after this recovery at this number of heads. Select others.")
        return
    ours = method_label(results.against)
    when = RECOVERIES[filters.recovery].beside
    yield Figure(
        _describe_tests(results, filters.recovery, filters.budget),
        lambda dark: ranking_figure(results, filters.recovery, filters.budget, filters.methods, dark=dark),
        f"{capital(OUTCOMES[results.outcome].label)} on {results.n:,} evaluation {results.noun}, the mean over "
        f"{counted(len(results.document.seeds), 'seed')}. Dots: as pruned. Rings: after a recovery. Order and 95 % "
        f"intervals are those {when}. The methods in colour are {ours}, the best other one, and random selection, "
        f"whose interval is the band. Pale: the difference from {ours} is not significant. Intervals can overlap "
        f"although a difference is significant, because all methods are evaluated on the same {results.noun}. The "
        "dashed line is the full model. A name that ends with -min-N is that method with at least N heads in each "
        "layer. Each seed has calibration texts of its own, so the numbers of the Budget page differ.",
        list_means(means),
        name="compare-ranking",
        formula=_INTERVAL,
        alt=_speak(results, means),
    )


def show_curve(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the outcome by method and number of heads; with a single number the ranking shows it."""
    means = [
        mean for mean in results.means.values() if mean.recovery == filters.recovery and mean.method in filters.methods
    ]
    if means and len(results.budgets_after(filters.recovery)) > 1:
        when = RECOVERIES[filters.recovery].beside
        yield Figure(
            f"{capital(name_outcome(results.outcome))} by number of {results.units}, {when}",
            lambda dark: curve_figure(results, filters.recovery, filters.budget, filters.methods, dark=dark),
            f"Each line is a method, in the colours of the ranking. Bars are 95 % intervals for other {results.noun} "
            "and seeds; the tooltip names grey lines and their intervals.",
            list_means(means),
            name="compare-curves",
            formula=_INTERVAL,
            alt=_speak(results, means),
        )
    rejected = sum(mean.rejected or 0 for mean in means)
    if rejected:
        masks = sum(mean.masks for mean in means)
        yield Text(
            f"Recoveries rejected on held-out texts, which leave the pruned model as it was: {rejected} of {masks}."
        )


def show_differences(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the tests of differences to the reference."""
    every = [test for test in results.tests if test.recovery == filters.recovery and test.method in filters.methods]
    tests = [test for test in every if test.budget == filters.budget]
    when = RECOVERIES[filters.recovery].beside
    if tests:
        ours = method_label(results.against)
        yield Figure(
            f"Lead of {ours} in {name_outcome(results.outcome)} at {filters.budget} {results.units}, {when}",
            lambda dark: difference_figure(results.against, tests, dark=dark),
            f"Points are the lead of {ours} over the other method on the same {results.noun}; lines are simultaneous "
            "95 % intervals. Solid points are significant, hollow points are not.",
            pd.DataFrame(map(vars, tests)).to_dict("list"),
            name="compare-differences",
            formula=_TEST,
        )
    yield _tabulate_tests(f"All {len(every)} tests {when}", results, every, "compare-tests")


# Costs and rules ---------------------------------------------------------------------------------------------


def show_heads(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield how many heads of each layer the methods keep at a number of heads, and how alike their masks are."""
    document = results.document
    masks: dict[str, dict[int, list[Bools]]] = {}
    for cell in document.cells:
        if cell.error is None and cell.budget["attained"] == filters.budget and cell.method in filters.methods:
            masks.setdefault(cell.method, {}).setdefault(cell.seed, []).append(document.mask(cell))
    names = {method: method_label(method) for method in masks}
    layers = []
    alike = []
    for method, by_seed in masks.items():
        counts = np.mean([mask.sum(axis=1) for group in by_seed.values() for mask in group], axis=0)
        layers.append([names[method], *(f"{count:.1f}" for count in counts)])
        row: list[Cell] = [names[method]]
        for other, group in masks.items():
            pairs = _pair_masks(by_seed, group, own=other == method)
            row.append(f"{np.mean(pairs):.2f}" if pairs else None)
        alike.append(row)
    columns = ["method", *map(str, range(document.model.layers))]
    yield Table(
        f"{capital(results.units)} kept by layer, of {filters.budget}, mean over masks",
        columns,
        layers,
        "compare-layers",
    )
    yield Table(
        f"Mean Jaccard index of the kept {results.units}", ["method", *names.values()], alike, "compare-overlap"
    )
    chance = expected_jaccard(filters.budget, filters.budget, document.total)
    yield Text(
        f"The Jaccard index of two masks is the share of {results.units} that both keep, of those that one of them "
        f"keeps. Two methods are compared with the same seed, a method with itself over two "
        f"seeds; by chance it is {chance:.2f}."
    )


def _pair_masks(first: Mapping[int, list[Bools]], second: Mapping[int, list[Bools]], *, own: bool) -> list[float]:
    """The Jaccard index of each pair of masks: of one method with different seeds, of two with the same seed."""
    return [
        jaccard(mask, other)
        for seed, masks in first.items()
        for at, others in second.items()
        if (at > seed if own else at == seed)
        for mask in masks
        for other in others
    ]


def show_costs(results: SplitResults, filters: Filters) -> Iterator[Block]:
    """Yield the cost of each method."""
    recovered = [name for name in results.by_cost if name != NONE.name]
    rows = []
    for cost in results.summary.cost:
        forwards = None if cost.forwards is None else round(cost.forwards)
        row: list[Cell] = [method_label(cost.method), forwards, cost.labels, f"{cost.score_s:.2f}"]
        for recovery in recovered:
            seconds = cost.recovery_s.get(recovery)
            row.append(None if seconds is None else f"{seconds:.2f}")
        if cost.method in filters.methods:
            rows.append(row)
    columns = ["method", "forward passes", "labels", "selecting (s)"]
    columns += [f"{RECOVERIES[name].noun} (s)" for name in recovered]
    yield Table(f"Costs, mean over {counted(len(results.document.seeds), 'seed')}", columns, rows, "compare-cost")
    yield Text(
        "A forward pass is one text through the full model (a backward pass counts as two), as if nothing were "
        "cached: use it to compare methods. Seconds are the time for the costliest budget, without measurements that "
        "another method had made before, and depend on the machine. Labels is the number of labelled texts that a "
        "method needs."
    )


def show_notes(results: SplitResults, filters: Filters | None) -> Iterator[Block]:
    """Yield how differences are tested, and the notices; they are the same for all ``filters``."""
    document = results.document
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
        compared = compare_shares(kept_shares(results.document, filters.budget), results.against)
        lead = f"lead of {method_label(results.against)}, points (95 % interval)"
        columns = ("method", "share kept", lead, "p after Holm")
        yield Table("Criticality of the middle third", columns, list_shares(compared), "claim-criticality")
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
