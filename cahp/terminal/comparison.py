"""A comparison as a person reads it in a terminal: what it will take, how far it is, and what came out."""

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
    from cahp.comparison import Comparison, Estimate, Reading
    from cahp.comparison.summary import Area, Mean, Summary, Verdict


def announcement(estimate: Estimate) -> str:
    """What a comparison will take, before it begins."""
    left = estimate.cells - estimate.cached
    again = f" ({estimate.cached} were measured before)" if estimate.cached else ""
    return (
        f"{left:,} cells to measure{again}: about {estimate.forwards:,.0f} forward passes, {estimate.choosing:,.0f} of "
        f"them to choose heads; at {estimate.forward_ms:.1f} ms each about {minutes(estimate.minutes)}"
    )


def minutes(value: float) -> str:
    """A length of time in words."""
    if value < 1:
        return "less than a minute"
    return f"{value:.0f} minutes" if value < 90 else f"{value / 60:.1f} hours"


@contextmanager
def reporting(*, quiet: bool) -> Iterator[tuple[Progress, Callable[[Estimate], None]]]:
    """Progress on stderr with the time left: a bar on a terminal, a line every tenth elsewhere; nothing when quiet."""
    if quiet:
        yield silent, lambda _: None
        return

    def announce(estimate: Estimate) -> None:
        print(f"cahp: {announcement(estimate)}", file=sys.stderr, flush=True)

    if sys.stderr.isatty():
        with bars(quiet=False) as progress:
            yield progress, announce
    else:
        yield _Lines(), announce


class _Lines:
    """A line for every tenth that is done."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._tenths = 0
        self._of: tuple[str, int] | None = None
        self._done = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._of != (stage, total) or done < self._done:
            # Something else has begun.
            self._of, self._start, self._tenths = (stage, total), None, 0
        self._done = done
        self._start = monotonic() if self._start is None else self._start
        tenths = 10 * done // max(1, total)
        if tenths > self._tenths:
            self._tenths = tenths
            left = (monotonic() - self._start) / 60 * (total - done) / max(1, done)
            rest = "" if tenths == 10 else f", {minutes(left)} left"
            print(f"cahp: {tenths * 10} % done{rest}", file=sys.stderr, flush=True)


def summary(comparison: Comparison) -> Iterator[str]:
    """A comparison as a person reads it."""
    found, said = comparison.reading, comparison.summary
    yield (f"{found.model} on {found.data}: {len(found.methods)} methods, {found.masks} masks, {found.seeds} seed(s)")
    for part in reversed(comparison.document.parts):
        for recovery in found.recoveries:
            yield ""
            yield from _accuracies(comparison.on(part), recovery)
    yield ""
    yield from _verdicts(said)
    yield from _heads(said)
    yield from _costs(said)
    if found.test_opened:
        yield f"  the test split was opened {found.test_opened} time(s) for this model"
    for notice in found.notices:
        yield f"  note: {notice}"


def _accuracies(found: Reading, recovery: str) -> Iterator[str]:
    from cahp.comparison.sentences import after

    when = after(recovery)
    yield f"  right answers on {found.split} {when}, n = {found.n:,}, all heads {percent(found.full['none'])}"
    if recovery != "none" and recovery in found.full:
        yield f"  (all heads {when}: {percent(found.full[recovery])})"
    budgets = [at for at in found.budgets if any((recovery, name, at) in found.means for name in found.methods)]
    areas = any((recovery, name) in found.areas for name in found.methods)
    titles = [f"{budget} heads" for budget in budgets] + (["area"] if areas else [])
    wide = max(len(name) for name in found.methods)
    yield f"    {'':<{wide}}" + "".join(f"{title:>22}" for title in titles)
    for name in found.methods:
        means = [found.means.get((recovery, name, budget)) for budget in budgets]
        row = [_share(mean.accuracy, mean) if mean else "–" for mean in means]
        if areas:
            area = found.areas.get((recovery, name))
            row.append(_share(area.area, area) if area else "–")
        yield f"    {name:<{wide}}" + "".join(f"{one:>22}" for one in row)


def _share(share: float, of: Mean | Area) -> str:
    return f"{percent(share)} {interval(100 * of.low, 100 * of.high)}"


def _verdicts(found: Summary) -> Iterator[str]:
    from cahp.comparison.sentences import where

    yield f"  {found.rule}"
    tests = (*found.area_verdicts, *found.verdicts)
    for one in tests:
        if not one.tie:
            yield f"    on {one.split}, {one.words}"
    ties = [one for one in tests if one.tie]
    if ties:
        yield f"    no difference at this n in {len(ties)} of {len(tests)} tests:"
        every = sorted({one.budget for one in found.means})
        groups: dict[tuple[str, str, int | None], list[Verdict]] = {}
        for one in ties:
            groups.setdefault((one.split, one.recovery, one.budget), []).append(one)
        for (split, _, _), members in groups.items():
            said = ", ".join(f"{one.method} ({points(one.pp)})" for one in members)
            yield f"      on {split}, {where(members[0], every)}: {found.against} and {said}"


def _heads(found: Summary) -> Iterator[str]:
    for one in found.consensus:
        yield (
            f"  heads     at {one.budget}: {len(one.everybody)} kept by all {one.methods} methods, with every seed, "
            f"{len(one.nobody)} by none (chance aside)"
        )
    for own in found.overlap.seeds:
        if own.method == found.against:
            yield (
                f"            {own.method} at {own.budget} keeps the same heads with another seed by a Jaccard index "
                f"of {own.jaccard:.2f} (chance {own.chance:.2f})"
            )


def _costs(found: Summary) -> Iterator[str]:
    said = [f"{one.method} {one.forwards:,.0f}" for one in found.cost if one.forwards is not None]
    if said:
        yield f"  choosing  in forward passes: {', '.join(said)}"
