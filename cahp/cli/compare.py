"""``cahp compare``: what is asked, what it will take, and what came out, as a person reads it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from cahp.cli.command import Call, command, folder
from cahp.cli.options import COLUMNS, OPTIONS, Option
from cahp.cli.progress import bars
from cahp.values import OptionError, Progress, silent
from cahp.words import interval, percent, points

if TYPE_CHECKING:
    from cahp.compare import Comparison, Estimate, Plan, Reading
    from cahp.compare.summary import Area, Mean, Summary, Verdict
    from cahp.run.settings import Settings

_WHICH = (
    Option("methods", "Names with commas; without, the preset's."),
    Option("budgets", "Heads to keep, with commas: 6,12,20 or 10%,20%."),
    Option("seeds", "How many (5), or which (42,43)."),
    OPTIONS["recover"].but(default=None, fills=False, help="none, refit, distill, finetune, with commas."),
    Option("preset", "quick (the default), posthoc or full."),
)
#: Without a number, the preset's.
_TEXTS = (OPTIONS["limit"].but(default=None, fills=False), OPTIONS["eval_limit"].but(default=None, fills=False))
_TRIES = Option("tries", "Settings that tuning texts choose among; 1: the defaults.", int, 1, low=1)
_WORKERS = (
    Option("jobs", "Processes of this machine.", int, 1, low=1, high=1024),
    Option("cluster", "dask, or dask:ADDRESS of a scheduler."),
)
_OUT = OPTIONS["out"].but(help="Folder for compare.json, a table and figures.")


@command(
    *("model", "data", *_WHICH, *_TEXTS, "eval_split", "sample", "min_per_layer", _TRIES, "report", *_WORKERS),
    *("device", *COLUMNS, "label_map", _OUT, "as_json", "quiet"),
)
def compare(
    call: Call,
    methods: str | None,
    budgets: str | None,
    seeds: str | None,
    recover: str | None,
    preset: str | None,
    limit: int | None,
    eval_limit: int | None,
    tries: int,
    jobs: int,
    cluster: str | None,
    out: Path | None,
) -> None:
    """Compare methods of choosing heads under one protocol; an interrupted comparison goes on where it stopped."""
    from cahp import compare as comparing

    asked = plan(
        call.settings,
        preset=preset,
        methods=methods,
        budgets=budgets,
        seeds=seeds,
        recover=recover,
        limit=limit,
        eval_limit=eval_limit,
        tries=tries,
    )
    names: list[str] = []
    with folder(out):
        with reporting(quiet=call.quiet) as (progress, announce):
            found = comparing.compare(
                asked,
                store=call.store,
                jobs=jobs,
                cluster=cluster,
                command=call.line,
                progress=progress,
                announce=announce,
            )
        if out is not None:
            names = found.write(out)
    call.answer(found.as_json(), summary(found, out, names))


def plan(
    settings: Settings,
    *,
    preset: str | None,
    methods: str | None,
    budgets: str | None,
    seeds: str | None,
    recover: str | None,
    limit: int | None,
    eval_limit: int | None,
    tries: int,
) -> Plan:
    """What a command line asks for: a preset (``quick`` unless methods are named), and what is given otherwise.

    Raises:
        OptionError: If the preset is unknown, or a list cannot be read.
    """
    from cahp.compare import PRESETS, Plan, parse_seeds
    from cahp.compare.plan import PLAIN, split

    name = preset or ("quick" if methods is None else None)
    if name is not None and name not in PRESETS:
        raise OptionError(f"--preset {name} is unknown; choose one of {', '.join(PRESETS)}")
    start = PLAIN if name is None else PRESETS[name]
    return Plan(
        replace(settings, limit=limit or start.limit, eval_limit=eval_limit or start.eval_limit),
        methods=start.methods if methods is None else split(methods),
        budgets=start.budgets if budgets is None else split(budgets),
        seeds=start.seeds if seeds is None else parse_seeds(seeds),
        recoveries=start.recoveries if recover is None else split(recover),  # type: ignore[arg-type]
        tries=tries,
        draws=start.draws,
        recovered_draws=start.recovered_draws,
        learned_budgets=start.learned_budgets if budgets is None else None,
        finetuned_budgets=start.finetuned_budgets if budgets is None and recover is None else None,
        few_seeds=start.few_seeds if seeds is None else (),
    )


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

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._start = monotonic() if self._start is None else self._start
        tenths = 10 * done // max(1, total)
        if tenths > self._tenths:
            self._tenths = tenths
            left = (monotonic() - self._start) / 60 * (total - done) / max(1, done)
            rest = "" if tenths == 10 else f", {minutes(left)} left"
            print(f"cahp: {tenths * 10} % done{rest}", file=sys.stderr, flush=True)


def summary(comparison: Comparison, wrote: Path | None, names: Sequence[str]) -> Iterator[str]:
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
    if wrote is None:
        yield "  nothing was written; --out DIR keeps compare.json, comparison.csv and the figures"
    else:
        yield f"  wrote     {wrote}/{', '.join(names)}"


def _accuracies(found: Reading, recovery: str) -> Iterator[str]:
    from cahp.compare.sentences import after

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
    from cahp.compare.sentences import where

    yield f"  {found.rule}"
    tests = (*found.area_verdicts, *found.verdicts)
    for one in tests:
        if not one.tie:
            yield f"    on {one.split}, {one.words}"
    ties = [one for one in tests if one.tie]
    if ties:
        yield f"    no difference at this n in {len(ties)} of {len(tests)} tests:"
        groups: dict[tuple[str, str, int | None], list[Verdict]] = {}
        for one in ties:
            groups.setdefault((one.split, one.recovery, one.budget), []).append(one)
        for (split, recovery, budget), members in groups.items():
            said = ", ".join(f"{one.method} ({points(one.pp)})" for one in members)
            yield f"      on {split}, {where(budget, recovery)}: {found.against} and {said}"


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
