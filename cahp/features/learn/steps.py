"""The course of a model: one head at work, then six steps with a question and the measurement that answers it.

Every sentence is built from measurements, also where a model does not behave as textbooks say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from cahp.board import BudgetTable
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.outcomes import OUTCOMES, accuracy_change, estimate_mean, same_predictions
from cahp.recoveries import NONE, QUICK
from cahp.stages import top
from cahp.tasks import TokenEvaluation
from cahp.values import Estimate, HeadMask, OptionError, Progress
from cahp.words import number, percent, signed

#: Random selections that CAHP's is compared with, and those that are also refitted, each of which costs a refit.
DRAWS = 20
REFITTED_DRAWS = 5
#: Random sets of other heads that heads that copy are compared with.
CONTROLS = 5
#: The share of predictions up to which few change.
_FEW = 0.05
#: Bytes of a mebibyte.
_MIB = 1 << 20
#: The last step, and its goals: points of accuracy that may be lost, and the share of next words that must stay.
TURN = "turn"
_POINTS = 1.0
_SHARE = 0.7


def list_steps(subject: Subject) -> list[Step]:
    """Return the steps about a model in order, with the numbers of the subject in their texts."""
    steps = [_show_head(subject), _remove_head(subject)]
    # The family is a cluster, or all heads that copy.
    if subject.family.stays is None:
        steps.append(_remove_copying(subject))
    else:
        steps.append(_remove_family(subject))
    steps.append(_draw_at_random(subject))
    if subject.bench.recoveries.no_refit is None:
        steps.append(_refit(subject))
    if subject.texts.task.predicts_labels:
        steps.append(_halve(subject))
    else:
        steps.append(_shrink_cache(subject))
    return [*steps, _take_turn(subject)]


# One head, and its family ----------------------------------------------------------------------------------------


def _show_head(subject: Subject) -> Step:
    """Show one head at work."""
    group = subject.bench.card.group
    title = "This is an attention head"
    doing = "For each word, it decides which other words to look at."
    if group > 1:
        title = f"This is a group of {group} attention heads"
        doing = "For each word, they decide which earlier words to look at. One group is kept or removed as a whole."
    return Step(
        "head",
        f"A {subject.unit}",
        title,
        doing,
        subject.without([]),
        terms="**Attention head**: a part of a layer that decides which words attend to which. **Token**: a word or a "
        "part of a word.",
        coloured=(subject.scene.head,),
        on_sentence=True,
    )


def _remove_head(subject: Subject) -> Step:
    """Remove the head that was shown."""
    scene = subject.scene
    effect = f"Here “{scene.before.words}” becomes “{scene.after.words}”."
    if scene.before.words == scene.after.words:
        effect = f"Here it stays “{scene.before.words}”."
    return _ask_for_changes(
        subject,
        Step(
            "one-head",
            "Remove it",
            f"Remove this {subject.unit}",
            f"The model has {subject.total} {subject.unit}s. We remove this one; the other {subject.total - 1} stay.",
            subject.without([scene.head]),
            coloured=(scene.head,),
            on_sentence=True,
        ),
        f"without this {subject.unit}",
        "{changes} " + effect,
    )


def _remove_family(subject: Subject) -> Step:
    """Remove all heads of the largest cluster but its representative."""
    family = subject.family
    count = len(family.heads)
    leaving = len(family.leaving)
    return _ask_for_changes(
        subject,
        Step(
            "one-cluster",
            "Its family",
            "Its family attends alike",
            f"{count} {subject.unit}s {subject.texts.task.words.likeness}. We keep one and remove the other {leaving}.",
            subject.without(family.leaving),
            terms="**Family**: a cluster: heads that are more similar to each other than to other heads.",
            coloured=family.heads,
        ),
        f"without {leaving} of the family",
        f"{leaving} of {count} {subject.unit}s are gone. {{changes}}",
    )


def _ask_for_changes(subject: Subject, step: Step, variant: str, headline: str) -> Step:
    """Let a step ask how many predictions change; ``variant`` names its bar, and ``headline`` states ``{changes}``."""
    total = 100
    noun = "predicted tokens"
    if subject.texts.task.predicts_labels:
        total = len(subject.texts)
        noun = "answers"

    def measure(progress: Progress) -> Answer:
        full, less = subject.evaluate([None, step.mask], progress)
        same = OUTCOMES["agreement"].estimate(less, full, 0)
        changed = total * (1 - same.value)
        interval = None
        if same.ci95 is not None:
            interval = (total * (1 - same.high), total * (1 - same.low))
        meaning = "Many predictions change, and nothing has replaced what was removed yet."
        if changed <= _FEW * total:
            meaning = f"The predictions hardly change: the {subject.unit}s that are left are nearly enough for them."
        return Answer(
            changed,
            interval,
            headline.format(changes=f"{round(changed, 1):g} of {total} {noun} changed."),
            meaning,
            {"all heads": subject.estimate(full, full), variant: subject.estimate(less, full)},
            subject.outcome,
            f"{same.n} {subject.texts.units}",
        )

    return replace(
        step,
        question=f"Of {total} {noun}, how many will change?",
        unit=noun.split()[-1],
        highest=total,
        definition="A prediction changes when it differs from that with all heads, right or wrong.",
        measure=measure,
    )


def _remove_copying(subject: Subject) -> Step:
    """Remove the heads that copy."""
    others = ""
    if subject.family.named_otherwise:
        others = f" ({subject.family.named_otherwise} of them under another role on the board)"
    return Step(
        "induction",
        "Its family",
        f"Remove every {subject.unit} that copies",
        "An induction head finds an earlier copy of a token and attends to the token after it. We remove all "
        f"{len(subject.family.heads)}{others}, and repeat random tokens.",
        subject.without(subject.family.heads),
        "By how many per cent does the loss on the repeated tokens rise?",
        "per cent",
        300,
        "Per cent of the loss with all heads, on the second half of each sequence, which repeats the first.",
        "**Loss**: minus the logarithm of the probability of the next token, in nats: 0 where it is certain.",
        coloured=subject.family.heads,
        measure=partial(_measure_copying, subject),
    )


def _measure_copying(subject: Subject, progress: Progress) -> Answer:
    """Measure the rise of the loss on repeated tokens without the heads that copy, and without as many others."""
    own = subject.family.heads
    others = np.setdiff1d(np.arange(subject.total), own)
    masks: list[HeadMask | None] = [None, subject.without(own)]
    for seed in range(CONTROLS):
        size = min(len(own), len(others))
        masks.append(subject.without(np.random.default_rng(seed).choice(others, size=size, replace=False)))
    full, less, *controls = subject.evaluate(masks, progress)
    assert isinstance(full, TokenEvaluation)
    before, units = full.copying
    rises = []
    for evaluation in (less, *controls):
        assert isinstance(evaluation, TokenEvaluation)
        rises.append(estimate_mean(evaluation.copying[0] - before, 0, units=units))
    rise, *drawn = rises
    scale = 100 / float(before.mean())
    interval = None
    if rise.ci95 is not None:
        interval = (scale * rise.low, scale * rise.high)
    low = min(control.value for control in drawn)
    high = max(control.value for control in drawn)
    meaning = "These heads copy: without them, the model no longer sees that the random tokens repeat."
    if rise.value <= high:
        meaning = "Without as many others, copying breaks as much: its parts are spread over more heads."
    return Answer(
        scale * rise.value,
        interval,
        f"Without all {len(own)} that copy, the loss on repeated tokens changes by {signed(scale * rise.value, 0)} %.",
        f"{meaning} The loss changes by {signed(rise.value, 2)} nats; without as many others by {signed(low, 2)} to "
        f"{signed(high, 2)}.",
        {
            "all heads": subject.estimate(full, full),
            f"without the {len(own)} that copy": subject.estimate(less, full),
        },
        subject.outcome,
        f"{rise.n} sequences",
    )


# CAHP's choice: beside random selections, and after a refit -------------------------------------------------------


def _draw_masks(subject: Subject, count: int = DRAWS) -> list[HeadMask]:
    """Return random selections of as many heads as the subject keeps."""
    # They get the same floor as CAHP: no empty layer, unless CAHP's selection has one.
    floor = 1
    if subject.mask.empty_layers:
        floor = 0
    masks = []
    for seed in range(count):
        scores = np.random.default_rng(seed).random(subject.mask.keep.shape)
        masks.append(top(scores, budget=subject.mask.count, min_per_layer=floor).mask)
    return masks


def _summarise(drawn: Sequence[Estimate]) -> Estimate:
    """Return the median of random selections, with their range in place of an interval."""
    values = [estimate.value for estimate in drawn]
    return Estimate(float(np.median(values)), (min(values), max(values)), len(values), "share")


def _draw_at_random(subject: Subject) -> Step:
    """Keep as many heads as CAHP, at random."""
    kept = subject.mask.count
    unit = subject.unit
    question = f"Of 100 next words, how many stay the same with {kept} random {unit}s?"
    if subject.texts.task.predicts_labels:
        question = f"How accurate is the model with {kept} random {unit}s?"
    return Step(
        "random",
        "Random heads",
        f"Keep {kept} {unit}s at random",
        f"CAHP keeps {kept} of {subject.total} {unit}s, one or more of each family. Now we keep as many at random, "
        f"{DRAWS} times.",
        _draw_masks(subject, 1)[0],
        question,
        "per cent",
        100,
        f"The median {OUTCOMES[subject.outcome].label} of {DRAWS} random selections.",
        "**CAHP**: complementary attention head pruning: keep one representative per cluster, prune the others.",
        measure=partial(_measure_random, subject),
    )


def _measure_random(subject: Subject, progress: Progress) -> Answer:
    """Measure the outcome of random selections, and that of CAHP's."""
    kept = subject.mask.count
    full, chosen, *drawn = subject.evaluate([None, subject.mask, *_draw_masks(subject)], progress)
    ours = subject.estimate(chosen, full)
    others = [subject.estimate(evaluation, full) for evaluation in drawn]
    middle = _summarise(others)
    as_good = sum(other.value >= ours.value for other in others)
    return Answer(
        100 * middle.value,
        (100 * middle.low, 100 * middle.high),
        f"{kept} random {subject.unit}s: {middle.text} ({percent(middle.low)} to {percent(middle.high)}). CAHP's "
        f"{kept}: {ours.text}.",
        f"{as_good} of {DRAWS} random selections are at least as good as CAHP's.",
        {"all heads": subject.estimate(full, full), "random, median": middle, f"CAHP's {kept}": ours},
        subject.outcome,
        f"{ours.n} {subject.texts.units}",
        f"range of {DRAWS} random selections",
    )


def _refit(subject: Subject) -> Step:
    """Refit the output weights."""
    return Step(
        "refit",
        "Refit",
        "Refit, without training",
        f"With {subject.mask.count} {subject.unit}s, the rest of the model gets inputs that it was not trained on. A "
        "refit solves for new output weights in one pass, without labels and without training.",
        subject.mask,
        f"How many points of {subject.outcome} does the refit regain?",
        "points",
        60,
        "One point is one more prediction of a hundred that is right, or that is that of the full model.",
        "**Output weights**: the weights that mix the outputs of the heads into the output of the layer.",
        early=True,
        measure=partial(_measure_refit, subject),
    )


def _measure_refit(subject: Subject, progress: Progress) -> Answer:
    """Measure the points of the outcome that a refit regains, and what random selections of a classifier reach."""
    bench = subject.bench
    full, before = subject.evaluate([None, subject.mask], progress)
    recovered = bench.recoveries.refit(subject.mask)
    after = bench.measurements.evaluate(subject.sample, mask=subject.mask, recovered=recovered)
    if subject.texts.task.predicts_labels:
        gain = accuracy_change(after, before)
    else:
        regained = same_predictions(after, full).astype(np.float64) - same_predictions(before, full)
        gain = estimate_mean(100 * regained, 0, "points", units=full.units)
    bars = {
        "all heads": subject.estimate(full, full),
        "after refit": subject.estimate(after, full),
        "before refit": subject.estimate(before, full),
    }
    meaning = "No measurable gain: there was little to recover, or these texts are too few to measure it."
    assert recovered.refit is not None
    if not recovered.refit.accepted:
        meaning = f"The refit was rejected, so nothing changed: {recovered.refit.reason}."
    elif gain.low > 0:
        meaning = "Much of the loss comes from how the remaining heads are mixed, and a refit recovers it."
    headline = (
        f"The refit brings CAHP's {subject.mask.count} {subject.unit}s from {bars['before refit'].text} to "
        f"{bars['after refit'].text}"
    )
    drawn = _draw_masks(subject, REFITTED_DRAWS)
    # Of a language model each takes minutes.
    if not subject.texts.task.predicts_often and all(map(bench.measurements.can_cut, drawn)):
        refitted = subject.evaluate(drawn, progress, refit=True)
        reached = _summarise([subject.estimate(evaluation, full) for evaluation in refitted])
        bars["random, after refit"] = reached
        headline += f"; random selections reach {percent(reached.low)} to {percent(reached.high)}"
    return Answer(
        gain.value, gain.ci95, f"{headline}.", meaning, bars, subject.outcome, f"{gain.n} {subject.texts.units}"
    )


# What cutting heads saves: time, and the cache of a language model ------------------------------------------------


def _halve(subject: Subject) -> Step:
    """Cut half of the heads of each layer: time depends on their number alone."""
    layers, heads = subject.mask.keep.shape
    stay = max(1, heads // 2)
    mask = HeadMask(np.tile(np.arange(heads) < stay, (layers, 1)))
    return Step(
        "time",
        "Half the heads",
        "Half of the heads, half of the time?",
        "We cut half of the heads out of every layer. The model is now really smaller, and we time both in turn.",
        mask,
        "How much of the time is saved?",
        "per cent",
        50,
        "Per cent of the time that the full model takes for the same texts.",
        "**To cut**: to remove a head's weights from the model; switching it off only sets its output to zero.",
        measure=partial(_measure_time, subject, mask),
    )


def _measure_time(subject: Subject, mask: HeadMask, progress: Progress) -> Answer:
    """Time the model with half of its heads, in turn with the full model."""
    costs = subject.bench.costs(mask, fresh=True)
    ratio = costs.ratio
    saved = (1 - ratio.value) * 100
    before = costs.full.latency_ms
    after = costs.pruned.latency_ms
    assert before is not None
    assert after is not None
    share = percent(costs.attention_share, 0)
    headline = f"Half of the heads save {number(saved, 0)} % of the time, because attention takes only {share}."
    if costs.noisy or not ratio.excludes(1) or saved < 0:
        headline = f"Half of the heads save no measurable time: attention takes only {share} of it."
    ceiling = costs.attention_share * (1 - mask.counts[0] / mask.heads)
    meaning = (
        f"{before.median:.1f} ms before, {after.median:.1f} ms after, for a batch of {before.batch}. A part cannot "
        f"save more than its share (Amdahl's law): here at most about {percent(ceiling, 0)}."
    )
    if costs.noisy:
        meaning += " Unreliable: the machine was busy. Measure again when it is idle."
    return Answer(
        saved,
        ((1 - ratio.high) * 100, (1 - ratio.low) * 100),
        headline,
        meaning,
        {
            "all heads": Estimate(1.0, None, 0, "share"),
            "half of the heads": Estimate(ratio.value, ratio.ci95, before.repeats, "share"),
        },
        "time",
        f"{before.repeats} rounds",
    )


def _shrink_cache(subject: Subject) -> Step:
    """Cut all heads of a language model but CAHP's."""
    return Step(
        "cache",
        "Memory",
        "What does the cache save?",
        "A language model keeps the keys and values of all earlier tokens, instead of computing them again. We cut "
        f"{subject.total - subject.mask.count} of {subject.total} {subject.unit}s out.",
        subject.mask,
        "How much smaller is this cache?",
        "per cent",
        100,
        "Per cent of the bytes that the full model caches for a token.",
        "**To cut**: to remove weights from the model; switching off only sets an output to zero.",
        measure=partial(_count_cache, subject),
    )


def _count_cache(subject: Subject, progress: Progress) -> Answer:
    """Count the bytes of the cache with and without the pruned heads.

    Raises:
        OptionError: If the size of the cache is not known.
    """
    mask = subject.mask
    cache = subject.bench.card.measure_cache(mask)
    if cache is None:
        raise OptionError("the size of this model's cache is not known; continue with the next step")
    meaning = (
        f"The cache shrinks in proportion to what is cut: {cache.full:,} bytes per token before, {cache.pruned:,} "
        "after."
    )
    tokens = cache.shape.positions
    if tokens is not None:
        before = cache.shape.of_context(HeadMask.full(mask.layers, mask.heads), tokens) / _MIB
        after = cache.shape.of_context(mask, tokens) / _MIB
        meaning += f" At {tokens:,} tokens, the longest context, that is {before:,.0f} MiB and {after:,.0f} MiB."
    saved = 1 - cache.share
    return Answer(
        100 * saved,
        None,
        f"Without {subject.total - mask.count} of {subject.total}, the cache is {percent(saved, 0)} smaller.",
        meaning,
        {
            f"all {subject.unit}s": Estimate(1.0, None, 0, "share"),
            f"{mask.count} {subject.unit}s": Estimate(cache.share, None, 0, "share"),
        },
        "cache",
    )


# The last step: how few heads are enough? The board's own table of budgets answers ---------------------------------


def find_swept(refitted: BudgetTable | None) -> str:
    """Return the recovery of the budgets that answer: a refit, if all of them are ``refitted``."""
    if refitted is None or any(row.outcomes is None for row in refitted.rows()):
        return NONE.name
    return QUICK.name


def _take_turn(subject: Subject) -> Step:
    """Ask for the fewest heads that are enough."""
    unit = subject.unit
    after = ", as pruned"
    if subject.swept != NONE.name:
        after = ", after a refit"
    goal = f"keep {100 * _SHARE:.0f} % of the next words unchanged"
    if subject.texts.task.predicts_labels:
        goal = f"lose at most {_POINTS:.0f} point of accuracy"
    return Step(
        TURN,
        "Your turn",
        f"Your turn: how few {unit}s are enough?",
        f"You choose how many {unit}s stay; CAHP chooses which. You want to {goal}{after}.",
        subject.without([]),
        f"What is the smallest number of {unit}s?",
        f"{unit}s",
        subject.total,
        f"The smallest number of {unit}s from which on every measured number reaches the goal.",
        early=True,
    )


def answer_turn(step: Step, table: BudgetTable | None) -> Answer | None:
    """Return the fewest heads that are enough (None: not all budgets are measured yet, or none is enough)."""
    if table is None or table.full is None:
        return None
    outcome = "agreement"
    least = _SHARE
    if "accuracy" in table.full:
        outcome = "accuracy"
        least = table.full[outcome].value - _POINTS / 100
    enough = None
    for row in table.rows():
        if row.outcomes is None:
            return None
        # The same goal as a difference in points, without an error of rounding.
        if round(row.outcomes[outcome].value - least, 9) < 0:
            enough = None
        elif enough is None:
            enough = row
    if enough is None or enough.outcomes is None:
        return None
    full = table.full[outcome]
    reached = enough.outcomes[outcome]
    return Answer(
        float(enough.budget),
        None,
        f"{enough.budget} {step.unit} are enough: {OUTCOMES[outcome].label} {reached.text}, with all {full.text}.",
        "How few are enough depends on the goal, and on the texts that it is measured on.",
        {"all heads": full, f"{enough.budget} {step.unit}": reached},
        outcome,
    )


def choose_best(guesses: Iterable[int], answer: Answer) -> int:
    """Return the smallest guess that is enough, or else the answer."""
    enough = int(answer.value)
    return min((guess for guess in guesses if guess >= enough), default=enough)
