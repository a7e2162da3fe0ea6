"""Redundancy in six small steps: a question to guess at, and an answer that is measured, not told.

Every sentence is built from what was measured. Where a model does not behave as the textbook says, the sentence
says that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cahp.run.bench import Bench
from cahp.run.measurements import Measurements
from cahp.run.resources import Loader, Resources
from cahp.run.stopwatch import Stopwatch
from cahp.stages.selection import top
from cahp.studies.head_clusters import HeadClusters
from cahp.values import Costs, Evaluation, Floats, HeadMask, Ints, Progress, Selection, Texts, digest, silent
from cahp.words import number, percent, signed, span

#: Texts that every step is measured on: few enough to be quick, enough for an interval of a few points.
EXAMPLES = 300
#: Random choices of heads that CAHP's is held against.
DRAWS = 20
#: Random sets of other heads that stand beside the representatives.
CONTROLS = 5
#: Random choices that are refitted as well: each costs a refit.
REFITTED_DRAWS = 5


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


@dataclass(frozen=True)
class Step:
    """One step: what is done to the model, the question, and the range and unit of a guess.

    ``counted`` says what one of the unit is; ``terms`` explains the field's words that come up here first.
    """

    name: str
    title: str
    doing: str
    question: str
    unit: str
    highest: int
    counted: str
    terms: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Subject:
    """What the steps are shown on: a finished selection of heads, and evaluation texts.

    ``measurements(progress)`` opens measurements on the calibration texts, ``costs(mask, progress)`` takes the time of
    the model cut to a mask. ``mask`` keeps CAHP's heads, ``labels (N,)`` are their clusters, ``salience (L, H)`` how
    much each head matters.
    """

    measurements: Callable[[Progress], Measurements]
    costs: Callable[[HeadMask, Progress], Costs]
    texts: Texts
    mask: HeadMask
    labels: Ints
    salience: Floats

    @classmethod
    def of(cls, evaluation: Texts, **selection: Any) -> Subject:
        """The subject on at most ``EXAMPLES`` texts, spread evenly over the evaluation texts."""
        rows = np.unique(np.linspace(0, len(evaluation) - 1, min(EXAMPLES, len(evaluation))).astype(np.int64))
        return cls(texts=evaluation.take(rows), **selection)

    @cached_property
    def sha256(self) -> str:
        """Tells apart what the answers depend on: the texts, the kept heads, and the heads that are switched off."""
        return digest(self.texts.sha256, self.mask.sha256, str(self.strongest), str(self.largest_cluster))

    @cached_property
    def strongest(self) -> tuple[int, int]:
        """Layer and head of highest salience."""
        layer, head = np.unravel_index(int(np.argmax(self.salience)), self.salience.shape)
        return int(layer), int(head)

    @cached_property
    def largest_cluster(self) -> tuple[list[int], int]:
        """Flat indices of the largest cluster's heads, and of the one that represents it."""
        members = np.flatnonzero(self.labels == np.bincount(self.labels).argmax())
        kept = [head for head in members if self.mask.keep.ravel()[head]]
        candidates = np.array(kept or members)
        representative = candidates[np.argmax(self.salience.ravel()[candidates])]
        return [int(head) for head in members], int(representative)

    def without(self, heads: Iterable[int]) -> HeadMask:
        """All heads but these."""
        keep = np.ones(self.mask.keep.size, dtype=np.bool_)
        keep[list(heads)] = False
        return HeadMask(keep.reshape(self.mask.keep.shape))


def subject_of(bench: Bench, clusters: HeadClusters, selection: Selection, *, load: Loader) -> Subject:
    """The subject that a workbench and a selection of its heads make; ``load`` is how its model is read."""

    def measurements(progress: Progress) -> Measurements:
        resources = Resources(
            bench.card,
            store=bench.resources.store,
            device=bench.settings.device,
            load=load,
            progress=progress,
        )
        return Measurements(resources, bench.calibration, seed=bench.settings.seed)

    def costs(mask: HeadMask, progress: Progress) -> Costs:
        with Stopwatch(
            bench.settings.model, device=bench.settings.device, store=bench.resources.store, prompt=bench.card.prompt
        ) as watch:
            return watch.costs(mask, length=bench.length, progress=progress)

    return Subject.of(
        bench.evaluation,
        measurements=measurements,
        costs=costs,
        mask=selection.mask,
        labels=clusters.groups(selection.k)[0],
        salience=clusters.salience,
    )


def steps(subject: Subject) -> list[Step]:
    """The six steps, in order, with the subject's own numbers in their words."""
    layer, head = subject.strongest
    members, _ = subject.largest_cluster
    total, kept, n = subject.mask.keep.size, subject.mask.count, len(subject.texts)
    answer = (
        "An answer is the class that the model names for a text. It changes when another class is named than with all "
        "heads, rightly or wrongly."
    )
    return [
        Step(
            "one-head",
            "Switch off one head",
            f"The model has {total} attention heads. We switch off the one that matters most by its gradient: "
            f"layer {layer}, head {head}. The other {total - 1} stay.",
            f"Of {n} answers, how many will change?",
            "answers",
            n,
            answer,
            {
                "attention head": "a part of a layer that decides which words of a text look at which others",
                "gradient": "how much the model's error would grow or shrink if the head spoke a little softer",
            },
        ),
        Step(
            "one-cluster",
            "Switch off a whole group of look-alikes but one",
            f"{len(members)} heads tell the classes apart in the same way; they form the largest cluster. We keep only "
            f"the one that represents them and switch off the other {len(members) - 1}.",
            f"Of {n} answers, how many will change?",
            "answers",
            n,
            answer,
            {"cluster": "a group of heads that differ less from each other than from the heads of other groups"},
        ),
        Step(
            "representatives",
            "Switch off the representatives",
            f"Now the other way round: the {kept} heads that CAHP would keep go, and the other {total - kept} stay. "
            f"For comparison, we also switch off as many of the others, drawn at random, {CONTROLS} times.",
            f"Of {n} answers, how many will change without the representatives?",
            "answers",
            n,
            answer,
            {"representative": "the head that stays for all of its cluster: the one that matters most by its gradient"},
        ),
        Step(
            "random",
            "Choose at random instead",
            f"CAHP keeps {kept} heads of {total}. We let chance keep as many, {DRAWS} times, and count right answers.",
            f"How many of the {DRAWS} random choices do at least as well as CAHP's?",
            "choices",
            DRAWS,
            f"A choice is {kept} heads drawn from {total}, some from every layer. It does at least as well if at least "
            f"as many of its {n} answers are right.",
            {"CAHP": "complementary attention head pruning: keep the representative of each cluster, prune the others"},
        ),
        Step(
            "refit",
            "Recover without training",
            f"With {kept} heads the rest of the model gets other inputs than it was trained on. Refit solves for new "
            "output weights in one pass, without labels and without training. Distillation would go on from "
            "there: the pruned model, a student, would learn to score each text as its teacher, the full model, does.",
            "How many points of accuracy does that win?",
            "points",
            50,
            "A point is one more right answer in a hundred texts.",
            {
                "output weights": "how strongly each head's result enters the sum that the layer passes on",
                "label": "the right answer to a text, as people gave it",
            },
        ),
        Step(
            "time",
            "Half of the heads, half of the time?",
            "We cut half of the heads out of every layer, so that the model is really smaller, and take the time of "
            "both models in turn.",
            "How much of the time is saved?",
            "per cent",
            50,
            "Per cent of the milliseconds that the full model takes for the same texts.",
            {"to cut": "to remove a head's weights from the model, where switching off only silences it"},
        ),
    ]


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
    from cahp.stages.evaluation import wilson

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
    """What the model answers under each mask after a refit, or None where a layer would be empty."""
    if any(mask.empty_layers for mask in masks):
        return None
    found = []
    for done, mask in enumerate(masks):
        progress("refit", done, len(masks))
        bench = subject.measurements(_between(progress, done, len(masks)))
        found.append(bench.evaluate(subject.texts, mask=mask, recovered=bench.refit(mask)))
    return found


def _between(progress: Progress, done: int, total: int) -> Progress:
    """Progress that counts whole models: the batches of one only ask whether to stop."""
    return lambda stage, _done, _total: progress("refit", done, total)


def _after_refit(chosen: Evaluation, drawn: list[Evaluation], *, before: tuple[Evaluation, list[Evaluation]]) -> str:
    """What is left of the choice's lead over the middle one of the random choices when all are refitted alike."""
    from cahp.stages.evaluation import delta

    shares = [float(one.correct.mean()) for one in drawn]
    lead = delta(before[0], _middle(before[1])).pp
    left = delta(chosen, _middle(drawn))
    said = (
        f"After a refit (see the next step), CAHP's choice is right in {percent(float(chosen.correct.mean()))}, the "
        f"first {len(drawn)} random ones in {percent(min(shares))} to {percent(max(shares))}. Its lead over the middle "
        f"one was {signed(lead)} points and is now {signed(left.pp)} ({span(*left.ci95)})"
    )
    if left.measurable and left.pp > 0:
        return f"{said}: some of the choice's advantage is left."
    return f"{said}: no measurable advantage of the choice is left, so the recovery matters more."


def _middle(drawn: list[Evaluation]) -> Evaluation:
    return sorted(drawn, key=lambda one: float(one.correct.mean()))[len(drawn) // 2]


def _refit(subject: Subject, progress: Progress) -> Answer:
    from cahp.stages.evaluation import delta

    bench = subject.measurements(progress)
    full, before = bench.evaluate(subject.texts), bench.evaluate(subject.texts, mask=subject.mask)
    recovered = bench.refit(subject.mask)
    after = bench.evaluate(subject.texts, mask=subject.mask, recovered=recovered)
    won = delta(after, before)
    found = (
        f"{percent(float(before.correct.mean()))} right before, {percent(float(after.correct.mean()))} after "
        f"({signed(won.pp)} points), {percent(float(full.correct.mean()))} with all heads. It looked at "
        f"{recovered.examples} texts without their labels."
    )
    if not recovered.accepted:
        meaning = f"The refit was rejected, so nothing changed: {recovered.reason}."
    elif won.measurable and won.pp > 0:
        meaning = (
            "Much of what pruning breaks is only that the remaining heads are badly mixed, and that can be solved."
        )
    elif won.measurable:
        meaning = "Here the refit did harm on these texts, although held-out texts had spoken for it."
    else:
        meaning = "No measurable change: there was little to recover, or these texts are too few to see it."
    bars = _bars({"all heads": full, "after refit": after, "before refit": before})
    return Answer(won.pp, won.ci95, found, meaning, len(full), bars)


def _time(subject: Subject, progress: Progress) -> Answer:
    layers, heads = subject.mask.keep.shape
    stay = max(1, heads // 2)
    # Which heads go does not matter to the clock.
    mask = HeadMask(np.tile(np.arange(heads) < stay, (layers, 1)))
    costs = subject.costs(mask, progress)
    ratio, share = costs.ratio, costs.attention_share
    ceiling = share * (1 - stay / heads)
    saved, interval = (1 - ratio.median) * 100, ((1 - ratio.ci95[1]) * 100, (1 - ratio.ci95[0]) * 100)
    latency, after = costs.full.latency_ms, costs.pruned.latency_ms
    assert latency is not None
    assert after is not None
    found = (
        f"{latency.median:.1f} ms before, {after.median:.1f} ms after, for {latency.batch} texts of "
        f"{latency.length} tokens: {f'{number(saved, 0)} % saved' if ratio.measurable else 'no measurable change'}."
    )
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

    bench = subject.measurements(within)
    found = []
    for mask in masks:
        found.append(bench.evaluate(subject.texts, mask=mask))
        finished += 1
    return found


def _changed(one: Evaluation, full: Evaluation) -> int:
    from cahp.stages.evaluation import flipped

    return len(flipped(one, full))


def _changes(changed: int, full: Evaluation, variants: Mapping[str, Evaluation], meaning: str) -> Answer:
    from cahp.stages.evaluation import wilson

    n = len(full)
    low, high = wilson(changed, n)
    before, after = list(variants.values())[:2]
    found = (
        f"{changed} of {n} answers changed. Right answers: {percent(float(before.correct.mean()))} with all heads, "
        f"{percent(float(after.correct.mean()))} now."
    )
    return Answer(float(changed), (low * n, high * n), found, meaning, n, _bars(variants))


def _bars(variants: Mapping[str, Evaluation]) -> tuple[Bar, ...]:
    from cahp.stages.evaluation import wilson

    return tuple(
        Bar(name, float(one.correct.mean()), *wilson(int(one.correct.sum()), len(one)))
        for name, one in variants.items()
    )
