"""A comparison in the terminal: its cost and its results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cahp.words import duration, interval, percent, points

if TYPE_CHECKING:
    from cahp.comparison import Comparison, ComparisonCost, SplitResults
    from cahp.comparison.document import Verdict
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
    results, document = comparison.results, comparison.document
    yield (
        f"{document.model.id} on {document.data.id}: {len(results.methods)} methods, {len(document.cells)} masks, "
        f"{len(document.seeds)} seed(s)"
    )
    for part in reversed(document.parts):
        for recovery in results.recoveries:
            yield ""
            yield from _accuracies(comparison.results_on(part), recovery)
    yield ""
    yield from _verdicts(comparison.summary)
    yield from _heads(comparison.summary)
    yield from _costs(comparison.summary)
    if document.test_opened:
        yield f"  the test split was opened {document.test_opened} time(s) for this model"
    for notice in document.notices:
        yield f"  note: {notice}"


def _accuracies(results: SplitResults, recovery: str) -> Iterator[str]:
    from cahp.comparison.sentences import after

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
    from cahp.comparison.sentences import describe_test

    yield f"  {result.rule}"
    tests = (*result.area_verdicts, *result.verdicts)
    for test in tests:
        if not test.tie:
            yield f"    {test.split}: {test.words}"
    ties = [test for test in tests if test.tie]
    if ties:
        yield f"    no difference at this n in {len(ties)} of {len(tests)} tests:"
        budgets = sorted({mean.budget for mean in result.means})
        groups: dict[tuple[str, str, int | None], list[Verdict]] = {}
        for test in ties:
            groups.setdefault((test.split, test.recovery, test.budget), []).append(test)
        for (split, _, _), group in groups.items():
            methods = ", ".join(f"{test.method} ({points(test.pp)})" for test in group)
            yield f"      {split}, {describe_test(group[0], budgets)}: {result.against} and {methods}"


def _heads(result: Summary) -> Iterator[str]:
    for row in result.consensus:
        yield (
            f"  heads     at {row.budget}: {len(row.everybody)} kept by all {row.methods} methods with every seed, "
            f"{len(row.nobody)} by none (without random selection)"
        )
    for overlap in result.overlap.seeds:
        if overlap.method == result.against:
            yield (
                f"            {overlap.method} at {overlap.budget}: overlap of two seeds {overlap.jaccard:.2f} "
                f"(Jaccard index; random selection {overlap.chance:.2f})"
            )


def _costs(result: Summary) -> Iterator[str]:
    costs = [f"{row.method} {row.forwards:,.0f}" for row in result.cost if row.forwards is not None]
    if costs:
        yield f"  selecting in forward passes: {', '.join(costs)}"
