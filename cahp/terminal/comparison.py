"""A comparison in the terminal: its cost, its progress, and its results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from cahp.terminal.progress import bars
from cahp.values import Progress, silent
from cahp.words import interval, percent, points

if TYPE_CHECKING:
    from cahp.comparison import Comparison, ComparisonCost, SplitResults
    from cahp.comparison.summary import Area, Mean, Summary, Verdict


def announcement(cost: ComparisonCost) -> str:
    """The estimated cost of a comparison, before it begins."""
    cached = f" ({cost.cached} were measured before)" if cost.cached else ""
    return (
        f"{cost.cells - cost.cached:,} cells to measure{cached}: about {cost.forwards:,.0f} forward passes, "
        f"{cost.choosing:,.0f} of them to select heads; at {cost.forward_ms:.1f} ms each about {minutes(cost.minutes)}"
    )


def minutes(value: float) -> str:
    """A number of minutes in words."""
    if value < 1:
        return "less than a minute"
    return f"{value:.0f} minutes" if value < 90 else f"{value / 60:.1f} hours"


@contextmanager
def reporting(*, quiet: bool) -> Iterator[tuple[Progress, Callable[[ComparisonCost], None]]]:
    """Show progress on stderr with the time left: a bar on a terminal, otherwise a line every tenth."""
    if quiet:
        yield silent, lambda _: None
        return

    def announce(cost: ComparisonCost) -> None:
        print(f"cahp: {announcement(cost)}", file=sys.stderr, flush=True)

    if sys.stderr.isatty():
        with bars(quiet=False) as progress:
            yield progress, announce
    else:
        yield _ProgressLines(), announce


class _ProgressLines:
    """Prints a line for every tenth of the work."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._tenths = 0
        self._work: tuple[str, int] | None = None
        self._done = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._work != (stage, total) or done < self._done:
            # Another stage has begun.
            self._work, self._start, self._tenths = (stage, total), None, 0
        self._done = done
        self._start = monotonic() if self._start is None else self._start
        tenths = 10 * done // max(1, total)
        if tenths > self._tenths:
            self._tenths = tenths
            left = (monotonic() - self._start) / 60 * (total - done) / max(1, done)
            rest = "" if tenths == 10 else f", {minutes(left)} left"
            print(f"cahp: {tenths * 10} % done{rest}", file=sys.stderr, flush=True)


def summary(comparison: Comparison) -> Iterator[str]:
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
        row = [_estimate(mean.accuracy, mean) if mean else "–" for mean in means]
        if areas:
            area = results.areas.get((recovery, name))
            row.append(_estimate(area.area, area) if area else "–")
        yield f"    {name:<{width}}" + "".join(f"{text:>22}" for text in row)


def _estimate(value: float, row: Mean | Area) -> str:
    return f"{percent(value)} {interval(100 * row.low, 100 * row.high)}"


def _verdicts(summary: Summary) -> Iterator[str]:
    from cahp.comparison.sentences import describe_test

    yield f"  {summary.rule}"
    tests = (*summary.area_verdicts, *summary.verdicts)
    for test in tests:
        if not test.tie:
            yield f"    {test.split}: {test.words}"
    ties = [test for test in tests if test.tie]
    if ties:
        yield f"    no difference at this n in {len(ties)} of {len(tests)} tests:"
        budgets = sorted({mean.budget for mean in summary.means})
        groups: dict[tuple[str, str, int | None], list[Verdict]] = {}
        for test in ties:
            groups.setdefault((test.split, test.recovery, test.budget), []).append(test)
        for (split, _, _), group in groups.items():
            methods = ", ".join(f"{test.method} ({points(test.pp)})" for test in group)
            yield f"      {split}, {describe_test(group[0], budgets)}: {summary.against} and {methods}"


def _heads(summary: Summary) -> Iterator[str]:
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


def _costs(summary: Summary) -> Iterator[str]:
    costs = [f"{row.method} {row.forwards:,.0f}" for row in summary.cost if row.forwards is not None]
    if costs:
        yield f"  selecting in forward passes: {', '.join(costs)}"
