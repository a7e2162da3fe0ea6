"""The measured answers to the six steps of ``lessons``.

Every sentence is built from what was measured. Where a model does not behave as the textbook says, the sentence
says that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cahp.outcomes import accuracy_change, changed_rows, wilson
from cahp.stages.selection import top
from cahp.studies.lessons import CONTROLS, DRAWS, REFITTED_DRAWS, Subject
from cahp.values import Evaluation, HeadMask, OptionError, Progress, silent
from cahp.words import number, percent, signed


@dataclass(frozen=True)
class Bar:
    """Share of right answers of one variant of the model, with its 95 % interval."""

    name: str
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """Shares of right answers of several random choices of heads."""

    name: str
    accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Answer:
    """What was measured: ``value`` in the unit of the guess, its 95 % interval where it has one, and what it means.

    ``bars`` are the variants that were compared, the full model first and then what the step is about; ``draws`` stand
    for chance; ``n`` the texts or, for time, the rounds.
    """

    value: float
    interval: tuple[float, float] | None
    found: str
    meaning: str
    n: int
    bars: tuple[Bar, ...] = ()
    draws: tuple[Draws, ...] = ()


def measure(step: str, subject: Subject, *, progress: Progress = silent) -> Answer:
    """The answer to the step of that name; ``progress`` counts the variants of the model that were run.

    Raises:
        KeyError: If there is no such step.
    """
    return _MEASURES[step](subject, progress)


# The six --------------------------------------------------------------------------------------------------------


def _one_head(subject: Subject, progress: Progress) -> Answer:
    layer, head = subject.strongest
    name = f"without layer {layer}, head {head}"
    full, less = _answers(subject, [None, subject.without([layer * subject.mask.heads + head])], progress)
    changed = _changed(less, full)
    if changed <= 0.05 * len(full):
        meaning = "Even the head with the largest gradient is hardly missed: the others carry on without it."
    else:
        meaning = "This head is missed: here one head does something that the others do not."
    return _changes(changed, full, {"all heads": full, name: less}, meaning)


def _one_cluster(subject: Subject, progress: Progress) -> Answer:
    members, representative = subject.largest_cluster
    gone = [head for head in members if head != representative]
    full, less = _answers(subject, [None, subject.without(gone)], progress)
    changed = _changed(less, full)
    if changed <= 0.1 * len(full):
        meaning = "Look-alikes can go together: as long as one of them stays, little is missed."
    else:
        meaning = (
            "That is a lot: these heads look alike in how they separate the classes, and still they are not copies of "
            "each other."
        )
    return _changes(changed, full, {"all heads": full, f"without {len(gone)} look-alikes": less}, meaning)


def _representatives(subject: Subject, progress: Progress) -> Answer:
    kept = subject.mask.flat
    others = np.flatnonzero(~subject.mask.keep.ravel())
    # Never more than there are: a large selection leaves fewer others than it has heads.
    size = min(len(kept), len(others))
    drawn = [np.random.default_rng(seed).choice(others, size=size, replace=False) for seed in range(CONTROLS)]
    masks = [None, subject.without(kept), *(subject.without(heads) for heads in drawn)]
    full, less, *controls = _answers(subject, masks, progress)
    changed = _changed(less, full)
    beside = sorted(_changed(control, full) for control in controls)
    bars = {"all heads": full, f"without the {len(kept)} representatives": less}
    bars |= {f"without {size} others, draw {number}": control for number, control in enumerate(controls, start=1)}
    said = f"Without {size} of the others instead, {beside[0]} to {beside[-1]} answers changed ({CONTROLS} draws)."
    # A few answers more or less are chance: only what lies outside the interval is a difference.
    low, high = (share * len(full) for share in wilson(changed, len(full)))
    if low > beside[-1]:
        meaning = f"{said} The representatives are missed more than any of them: they carry what is not elsewhere."
    elif high < beside[0]:
        meaning = (
            f"{said} The representatives are missed less than any of them: their look-alikes stand in for them. "
            "Redundancy works both ways."
        )
    else:
        meaning = (
            f"{said} The representatives are missed about as much: their look-alikes stand in for them. "
            "Redundancy works both ways."
        )
    return _changes(changed, full, bars, meaning)


def _random(subject: Subject, progress: Progress) -> Answer:
    # Chance gets the same promise as CAHP: no layer without a head, unless CAHP's own selection has one.
    floor = 0 if subject.mask.empty_layers else 1
    masks = [
        top(
            np.random.default_rng(seed).random(subject.mask.keep.shape), budget=subject.mask.count, min_per_layer=floor
        ).mask
        for seed in range(DRAWS)
    ]
    full, chosen, *drawn = _answers(subject, [None, subject.mask, *masks], progress)
    draws = tuple(float(one.correct.mean()) for one in drawn)
    ours = float(chosen.correct.mean())
    as_good = sum(draw >= ours for draw in draws)
    low, high, middle = min(draws), max(draws), float(np.median(draws))
    found = (
        f"{as_good} of {DRAWS} random choices were right at least as often. CAHP's: {percent(ours)}; random: "
        f"{percent(low)} to {percent(high)}, {percent(middle)} in the middle; all heads: "
        f"{percent(float(full.correct.mean()))}."
    )
    if as_good <= DRAWS // 20:
        meaning = "Which heads stay matters: chance does not find heads that complement each other so well."
    elif as_good < DRAWS // 2:
        meaning = "The choice helps, but chance comes close now and then: many selections do nearly as well."
    else:
        meaning = "Here chance does as well: with this many heads and texts the choice makes no visible difference."
    bars = _bars({"all heads": full, f"with CAHP's {subject.mask.count} heads": chosen})
    beside: tuple[Draws, ...] = (Draws(f"{DRAWS} random choices", draws),)
    refitted = _refitted_choices(subject, [subject.mask, *masks[:REFITTED_DRAWS]], progress)
    if refitted is not None:
        best, drawn_after = refitted[0], tuple(float(one.correct.mean()) for one in refitted[1:])
        bars = (*bars, *_bars({"CAHP's after refit": best}))
        beside = (*beside, Draws(f"{REFITTED_DRAWS} of them after refit", drawn_after))
        meaning = f"{meaning} {_after_refit(best, refitted[1:], before=(chosen, drawn[:REFITTED_DRAWS]))}"
    return Answer(float(as_good), None, found, meaning, len(full), bars, beside)


def _refitted_choices(subject: Subject, masks: list[HeadMask], progress: Progress) -> list[Evaluation] | None:
    """What the model answers under each mask after a refit, or None where there is none, or a layer would be empty."""
    if subject.open_bench(progress).recoveries.no_refit or any(mask.empty_layers for mask in masks):
        return None
    found = []
    for done, mask in enumerate(masks):
        progress("refit", done, len(masks))
        bench = subject.open_bench(_between(progress, done, len(masks)))
        found.append(bench.measurements.evaluate(subject.texts, mask=mask, recovered=bench.recoveries.refit(mask)))
    return found


def _between(progress: Progress, done: int, total: int) -> Progress:
    """Progress that counts whole models: the batches of one only ask whether to stop."""
    return lambda stage, _done, _total: progress("refit", done, total)


def _after_refit(chosen: Evaluation, drawn: list[Evaluation], *, before: tuple[Evaluation, list[Evaluation]]) -> str:
    """What is left of the choice's lead over the middle one of the random choices when all are refitted alike."""
    shares = [float(one.correct.mean()) for one in drawn]
    lead = accuracy_change(before[0], _middle(before[1])).value
    left = accuracy_change(chosen, _middle(drawn))
    said = (
        f"After a refit (see the next step), CAHP's choice is right in {percent(float(chosen.correct.mean()))}, the "
        f"first {len(drawn)} random ones in {percent(min(shares))} to {percent(max(shares))}. Its lead over the middle "
        f"one was {signed(lead)} points and is now {signed(left.value)} ({left.span})"
    )
    if left.low > 0:
        return f"{said}: some of the choice's advantage is left."
    return f"{said}: no measurable advantage of the choice is left, so the recovery matters more."


def _middle(drawn: list[Evaluation]) -> Evaluation:
    return sorted(drawn, key=lambda one: float(one.correct.mean()))[len(drawn) // 2]


def _refit(subject: Subject, progress: Progress) -> Answer:
    bench = subject.open_bench(progress)
    if bench.recoveries.no_refit:
        raise OptionError(f"{bench.recoveries.no_refit}, so this step shows nothing here; go on with the next one")
    full, before = (
        bench.measurements.evaluate(subject.texts),
        bench.measurements.evaluate(subject.texts, mask=subject.mask),
    )
    recovered = bench.recoveries.refit(subject.mask)
    after = bench.measurements.evaluate(subject.texts, mask=subject.mask, recovered=recovered)
    won = accuracy_change(after, before)
    found = (
        f"{percent(float(before.correct.mean()))} right before, {percent(float(after.correct.mean()))} after "
        f"({signed(won.value)} points), {percent(float(full.correct.mean()))} with all heads. It looked at "
        f"{recovered.examples} texts without their labels."
    )
    if not recovered.accepted:
        meaning = f"The refit was rejected, so nothing changed: {recovered.reason}."
    elif won.low > 0:
        meaning = (
            "Much of what pruning breaks is only that the remaining heads are badly mixed, and that can be solved."
        )
    elif won.excludes(0):
        meaning = "Here the refit did harm on these texts, although held-out texts had spoken for it."
    else:
        meaning = "No measurable change: there was little to recover, or these texts are too few to see it."
    bars = _bars({"all heads": full, "after refit": after, "before refit": before})
    return Answer(won.value, won.ci95, found, meaning, len(full), bars)


def _time(subject: Subject, progress: Progress) -> Answer:
    layers, heads = subject.mask.keep.shape
    stay = max(1, heads // 2)
    # Which heads go does not matter to the clock.
    mask = HeadMask(np.tile(np.arange(heads) < stay, (layers, 1)))
    costs = subject.costs(mask, progress)
    ratio, share = costs.ratio, costs.attention_share
    ceiling = share * (1 - stay / heads)
    saved, interval = (1 - ratio.value) * 100, ((1 - ratio.high) * 100, (1 - ratio.low) * 100)
    latency, after = costs.full.latency_ms, costs.pruned.latency_ms
    assert latency is not None
    assert after is not None
    found = (
        f"{latency.median:.1f} ms before, {after.median:.1f} ms after, for {latency.batch} texts of "
        f"{latency.length} tokens: {f'{number(saved, 0)} % saved' if ratio.excludes(1) else 'no measurable change'}."
    )
    if costs.noisy:
        found += " The machine was busy meanwhile: take the time with care, or time again."
    meaning = (
        f"Attention takes {percent(share, 0)} of the time; the rest is work that no head does. So these "
        f"{heads - stay} of {heads} heads a layer can save about {percent(ceiling, 0)} at best: a part cannot save "
        "more than its share (Amdahl's law)."
    )
    return Answer(saved, interval, found, meaning, latency.repeats)


_MEASURES: Mapping[str, Callable[[Subject, Progress], Answer]] = {
    "one-head": _one_head,
    "one-cluster": _one_cluster,
    "representatives": _representatives,
    "random": _random,
    "refit": _refit,
    "time": _time,
}


def _answers(subject: Subject, masks: list[HeadMask | None], progress: Progress) -> list[Evaluation]:
    """What the model answers under each mask (None: all heads)."""
    finished = 0

    def within(stage: str, done: int, total: int) -> None:
        # People wait for the number of variants; between the batches of one, only a wish to stop matters.
        if stage == "evaluation":
            stage, done, total = "variants", finished, len(masks)
        progress(stage, done, total)

    bench = subject.open_bench(within)
    found = []
    for mask in masks:
        found.append(bench.measurements.evaluate(subject.texts, mask=mask))
        finished += 1
    return found


def _changed(one: Evaluation, full: Evaluation) -> int:
    return len(changed_rows(one, full))


def _changes(changed: int, full: Evaluation, variants: Mapping[str, Evaluation], meaning: str) -> Answer:
    n = len(full)
    low, high = wilson(changed, n)
    before, after = list(variants.values())[:2]
    found = (
        f"{changed} of {n} answers changed. Right answers: {percent(float(before.correct.mean()))} with all heads, "
        f"{percent(float(after.correct.mean()))} now."
    )
    return Answer(float(changed), (low * n, high * n), found, meaning, n, _bars(variants))


def _bars(variants: Mapping[str, Evaluation]) -> tuple[Bar, ...]:
    return tuple(
        Bar(name, float(one.correct.mean()), *wilson(int(one.correct.sum()), len(one)))
        for name, one in variants.items()
    )
