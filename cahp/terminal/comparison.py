"""A comparison in the terminal: its cost and its results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cahp.comparison.sentences import after, describe_test
from cahp.terminal.printing import list_notes
from cahp.words import duration, interval, percent, points

if TYPE_CHECKING:
    from cahp.comparison import Comparison, SplitResults
    from cahp.comparison.running import ComparisonCost
    from cahp.comparison.summary import Summary


def announcement(cost: ComparisonCost) -> str:
    """The estimated cost of a comparison, before it begins."""
    cached = f" ({cost.cached} were measured before)" if cost.cached else ""
    time = duration(60 * cost.minutes)
    return (
        f"{cost.cells - cost.cached:,} cells to measure{cached}: about {cost.forwards:,.0f} forward passes, "
        f"{cost.choosing:,.0f} of them to select heads; at {cost.forward_ms:.1f} ms each about {time}"
    )


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """The results of a comparison as lines of text."""
    results, document, summary = comparison.results, comparison.document, comparison.summary
    yield (
        f"{document.model.id} on {document.data.id}: {len(results.methods)} methods, {len(document.cells)} masks, "
        f"{len(document.seeds)} seed(s)"
    )
    for part in reversed(document.parts):
        for recovery in results.recoveries:
            yield ""
            yield from _accuracies(comparison.results_on(part), recovery)
    yield ""
    yield from _verdicts(summary)
    for row in summary.consensus:
        yield (
            f"  heads     at {row.budget}: {len(row.everybody)} kept by all {row.methods} methods with every seed, "
            f"{len(row.nobody)} by none (without random selection)"
        )
    for overlap in summary.overlap.seeds:
        if overlap.method == summary.against:
            yield (
                f"            {overlap.method} at {overlap.budget}: overlap of two seeds {overlap.jaccard:.2f} "
                f"(Jaccard index; random selection {overlap.chance:.2f})"
            )
    costs = [f"{row.method} {row.forwards:,.0f}" for row in summary.cost if row.forwards is not None]
    if costs:
        yield f"  selecting in forward passes: {', '.join(costs)}"
    yield from list_notes(document.notices, document.test_opened)


def _accuracies(results: SplitResults, recovery: str) -> Iterator[str]:
    when = after(recovery)
    yield f"  accuracy on {results.split} {when}, n = {results.n:,}, all heads {percent(results.full['none'])}"
    if recovery != "none" and recovery in results.full:
        yield f"  (all heads {when}: {percent(results.full[recovery])})"
    budgets = results.budgets_after(recovery)
    areas = any((recovery, name) in results.areas for name in results.methods)
    titles = [f"{budget} heads" for budget in budgets] + (["area"] if areas else [])
    width = max(len(name) for name in results.methods)
    yield f"    {'':<{width}}" + "".join(f"{title:>22}" for title in titles)
    for name in results.methods:
        means = [results.means.get((recovery, name, budget)) for budget in budgets]
        row = [f"{mean.accuracy.text} {mean.accuracy.interval}" if mean else "–" for mean in means]
        if areas:
            area = results.areas.get((recovery, name))
            row.append(f"{percent(area.area)} {interval(100 * area.low, 100 * area.high)}" if area else "–")
        yield f"    {name:<{width}}" + "".join(f"{text:>22}" for text in row)


def _verdicts(result: Summary) -> Iterator[str]:
    yield f"  {result.rule}"
    tests = (*result.area_verdicts, *result.verdicts)
    for test in tests:
        if not test.tie:
            yield f"    {test.split}: {test.words}"
    ties = [test for test in tests if test.tie]
    if ties:
        yield f"    no difference at this n in {len(ties)} of {len(tests)} tests:"
        budgets = sorted({mean.budget for mean in result.means})
        where: dict[str, list[str]] = {}
        for test in ties:
            group = where.setdefault(f"{test.split}, {describe_test(test, budgets)}", [])
            group.append(f"{test.method} ({points(test.pp)})")
        for place, methods in where.items():
            yield f"      {place}: {result.against} and {', '.join(methods)}"
