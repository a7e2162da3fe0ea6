"""Steps about CAHP's choice of heads: beside random selections, and after a refit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cahp.board import BudgetTable
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.features.learn.switching import (
    choose_counting,
    estimate_accuracy,
    estimate_agreement,
    estimate_copying,
    state_perplexity,
)
from cahp.outcomes import OUTCOMES, Outcomes, accuracy_change, estimate_mean, same_predictions
from cahp.recoveries import NONE, QUICK, RefitReport
from cahp.run import LatencyWorker
from cahp.stages import top
from cahp.tasks import Evaluation
from cahp.values import Estimate, HeadMask, OptionError, Progress
from cahp.words import number, percent, signed

#: Random selections that CAHP's is compared with.
DRAWS = 20
#: Random selections that are also refitted; each costs a refit.
REFITTED_DRAWS = 5

_CAHP = "complementary attention head pruning: keep one representative per cluster, prune the others"
_OUTPUT_WEIGHTS = "the weights that mix the outputs of the heads into the output of the layer"


# Random selections ----------------------------------------------------------------------------------------------


def _draw_masks(subject: Subject) -> list[HeadMask]:
    """Return ``DRAWS`` random selections of as many heads as the subject keeps."""
    # They get the same floor as CAHP: no empty layer, unless CAHP's selection has one.
    floor = 1
    if subject.mask.empty_layers:
        floor = 0
    masks = []
    for seed in range(DRAWS):
        scores = np.random.default_rng(seed).random(subject.mask.keep.shape)
        masks.append(top(scores, budget=subject.mask.count, min_per_layer=floor).mask)
    return masks


def _describe_random(subject: Subject, question: str, counted: str) -> Step:
    kept = subject.mask.count
    unit = subject.bench.card.unit
    return Step(
        "random",
        "Random heads",
        f"Keep {kept} {unit}s at random",
        f"CAHP keeps {kept} of {subject.total} {unit}s, one or more of each family. Now we keep as many at random, "
        f"{DRAWS} times.",
        _draw_masks(subject)[0],
        question,
        "per cent",
        100,
        counted,
        {"CAHP": _CAHP},
        interval=f"range of {DRAWS} random selections",
    )


def describe_random_accuracy(subject: Subject) -> Step:
    """Keep as many heads as CAHP, at random."""
    definition = f"The median accuracy of {DRAWS} random selections on {len(subject.texts)} texts."
    if not subject.mask.empty_layers:
        definition += " Each has at least one head per layer."
    return _describe_random(subject, f"How accurate is the model with {subject.mask.count} random heads?", definition)


def measure_random_accuracy(subject: Subject, progress: Progress) -> Answer:
    """Measure the median accuracy of random selections, and that of CAHP's."""
    full, chosen, *drawn = subject.evaluate([None, subject.mask, *_draw_masks(subject)], progress)
    everything = estimate_accuracy(full)
    ours = estimate_accuracy(chosen)
    shares = _list_accuracies(drawn)
    as_good = sum(share >= ours.value for share in shares)
    found = f"{as_good} of {DRAWS} random selections are at least as accurate as CAHP's. All heads: {everything.text}."
    return _answer_random(
        subject, shares, ours, found, bars={"all heads": everything}, outcome="accuracy", as_good=as_good, n=len(full)
    )


def _answer_random(
    subject: Subject,
    shares: tuple[float, ...],
    ours: Estimate,
    found: str,
    *,
    bars: dict[str, Estimate],
    outcome: str,
    as_good: int,
    n: int,
) -> Answer:
    """Return the answer about random selections, ``as_good`` of which equal CAHP's."""
    kept = subject.mask.count
    middle = float(np.median(shares))
    meaning = "Random selections are as good: with this many heads and texts, the choice makes no visible difference."
    if as_good <= DRAWS // 20:
        meaning = "The choice of heads matters: random selections are worse."
    elif as_good < DRAWS // 2:
        meaning = "The choice helps, but some random selections come close."
    return Answer(
        100 * middle,
        (100 * min(shares), 100 * max(shares)),
        f"{kept} random {subject.bench.card.unit}s: {percent(middle)} ({percent(min(shares))} to "
        f"{percent(max(shares))}). CAHP's {kept}: {ours.text}.",
        found,
        meaning,
        n,
        {**bars, f"CAHP's {kept}": ours},
        {f"{DRAWS} random selections": shares},
        outcome,
    )


def _list_accuracies(drawn: list[Evaluation]) -> tuple[float, ...]:
    return tuple(float(evaluation.correct.mean()) for evaluation in drawn)


def describe_random_agreement(subject: Subject) -> Step:
    """Keep as many heads of a language model as CAHP, at random."""
    kept = subject.mask.count
    return _describe_random(
        subject,
        f"Of 100 next words, how many stay the same with {kept} random {subject.bench.card.unit}s?",
        f"The median agreement of {DRAWS} random selections with the full model: at how many of 100 tokens both "
        "predict the same.",
    )


def measure_random_agreement(subject: Subject, progress: Progress) -> Answer:
    """Measure the median agreement of random selections with the full model, and that of CAHP's."""
    full, chosen, *drawn = subject.evaluate([None, subject.mask, *_draw_masks(subject)], progress)
    ours = OUTCOMES["kl"].estimate(chosen, full, 0)
    others = [OUTCOMES["kl"].estimate(evaluation, full, 0).value for evaluation in drawn]
    as_good = sum(value <= ours.value for value in others)
    found = (
        f"{as_good} of {DRAWS} random selections are at least as close to the full model. KL divergence in nats per "
        f"token: CAHP {ours.text} ({ours.span}); random {number(min(others), 2)} to {number(max(others), 2)}, median "
        f"{number(float(np.median(others)), 2)}."
    )
    agreements = tuple(estimate_agreement(evaluation, full).value for evaluation in drawn)
    return _answer_random(
        subject,
        agreements,
        estimate_agreement(chosen, full),
        found,
        bars={"all heads": estimate_agreement(full, full)},
        outcome="agreement",
        as_good=as_good,
        n=ours.n,
    )


# Refit ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Refit:
    """The model with all heads, and the pruned one before and after a refit, which ``report`` is about."""

    full: Evaluation
    before: Evaluation
    after: Evaluation
    report: RefitReport

    def estimate(self, outcome: Callable[[Evaluation], Estimate]) -> dict[str, Estimate]:
        """Estimate an outcome of all three, by the names of the bars in the figure."""
        return {
            "all heads": outcome(self.full),
            "after refit": outcome(self.after),
            "before refit": outcome(self.before),
        }


def _refit(subject: Subject, progress: Progress) -> _Refit:
    """Refit the model."""
    bench = subject.bench
    full, before = subject.evaluate([None, subject.mask], progress)
    recovered = bench.recoveries.refit(subject.mask)
    after = bench.measurements.evaluate(subject.sample, mask=subject.mask, recovered=recovered)
    return _Refit(full, before, after, recovered.report)


def describe_refit_of_accuracy(subject: Subject) -> Step:
    """Refit the output weights of a classifier."""
    return Step(
        "refit",
        "Refit",
        "Refit, without training",
        f"With {subject.mask.count} heads, the rest of the model gets inputs that it was not trained on. A refit "
        "solves for new output weights in one pass, without labels and without training.",
        subject.mask,
        "How many points of accuracy does the refit regain?",
        "points",
        50,
        "One point is one more correct answer per hundred texts.",
        {"output weights": _OUTPUT_WEIGHTS, "label": "the correct class of a text, assigned by people"},
    )


def measure_refit_of_accuracy(subject: Subject, progress: Progress) -> Answer:
    """Measure the points of accuracy that a refit regains."""
    refit = _refit(subject, progress)
    gain = accuracy_change(refit.after, refit.before)
    bars = refit.estimate(estimate_accuracy)
    found = (
        f"Accuracy {bars['before refit'].text} before, {bars['after refit'].text} after ({signed(gain.value)} points), "
        f"{bars['all heads'].text} with all heads. The refit used {refit.report.examples} texts without labels."
    )
    if not refit.report.accepted:
        meaning = f"The refit was rejected, so nothing changed: {refit.report.reason}."
    elif gain.low > 0:
        meaning = (
            "Much of the loss comes from how the remaining heads are mixed, and refitted output weights recover it."
        )
    elif gain.excludes(0):
        meaning = "The refit lowered the accuracy on these texts, although held-out texts had accepted it."
    else:
        meaning = "No measurable change: there was little to recover, or these texts are too few to measure it."
    headline = f"The refit brings CAHP's {subject.mask.count} heads to {bars['after refit'].text}"
    draws = _refit_random(subject, progress)
    if draws:
        reached = f"{percent(min(draws))} to {percent(max(draws))}"
        headline += f"; {len(draws)} random selections reach {reached} after refit"
        return Answer(
            gain.value,
            gain.ci95,
            f"{headline}.",
            found,
            meaning,
            gain.n,
            bars,
            {f"{REFITTED_DRAWS} random selections after refit": draws},
        )
    return Answer(gain.value, gain.ci95, f"{headline}.", found, meaning, gain.n, bars)


def _refit_random(subject: Subject, progress: Progress) -> tuple[float, ...]:
    """Return the accuracies of some random selections after a refit (empty: one cannot be cut)."""
    masks = _draw_masks(subject)[:REFITTED_DRAWS]
    if not all(map(subject.bench.measurements.can_cut, masks)):
        return ()
    return _list_accuracies(subject.evaluate(masks, progress, refit=True))


def describe_refit_of_agreement(subject: Subject) -> Step:
    """Refit the output weights of a language model."""
    return Step(
        "refit",
        "Refit",
        "Refit, without training",
        f"With {subject.mask.count} of {subject.total}, the rest of the model gets inputs that it was not trained on. "
        "A refit solves for new output weights in closed form, on ordinary texts.",
        subject.mask,
        "How many points of agreement with the full model does the refit regain?",
        "points",
        60,
        "One point is one more token of a hundred at which both models predict the same.",
        {"output weights": _OUTPUT_WEIGHTS},
        units=subject.texts.units,
    )


def measure_refit_of_agreement(subject: Subject, progress: Progress) -> Answer:
    """Measure the points of agreement with the full model that a refit regains."""
    refit = _refit(subject, progress)
    full = refit.full
    regained = same_predictions(refit.after, full).astype(np.float64) - same_predictions(refit.before, full)
    gain = estimate_mean(100 * regained, 0, "points", units=full.units)
    bars = refit.estimate(lambda evaluation: estimate_agreement(evaluation, full))
    found = (
        f"Agreement {bars['before refit'].text} before, {bars['after refit'].text} after "
        f"({signed(gain.value)} points). Perplexity {state_perplexity(refit.before)} before, "
        f"{state_perplexity(refit.after)} after, {state_perplexity(full)} with all heads."
    )
    if not refit.report.accepted:
        meaning = f"The refit was rejected, so nothing changed: {refit.report.reason}."
    elif gain.low > 0:
        meaning = (
            "Much of the loss comes from how the remaining heads are mixed, and a refit recovers it without training."
        )
    elif gain.excludes(0):
        meaning = "The refit lowered the agreement on these texts, although held-out texts had accepted it."
    else:
        meaning = "No measurable gain: there was little to recover, or these texts are too few to measure it."
    if estimate_copying(full).n:
        before = estimate_copying(refit.before)
        after = estimate_copying(refit.after)
        found += f" Loss on repeated random tokens: {before.text} before, {after.text} after."
        if after.low > before.high:
            meaning += (
                " But copying, which its texts hardly need, is worse than before: a recovery knows only its texts."
            )
    headline = (
        f"The refit brings CAHP's {subject.mask.count} from {bars['before refit'].text} of next words unchanged to "
        f"{bars['after refit'].text}."
    )
    return Answer(gain.value, gain.ci95, headline, found, meaning, gain.n, bars, outcome="agreement")


# Steps about what cutting heads saves: time, and the cache of a language model --------------------------------------


#: Bytes of a mebibyte.
_MIB = 1 << 20


# Time -----------------------------------------------------------------------------------------------------------


def _halve(mask: HeadMask) -> HeadMask:
    """Return the mask that keeps the first half of the heads of each layer: time depends on their number alone."""
    return HeadMask(np.tile(np.arange(mask.heads) < max(1, mask.heads // 2), (mask.layers, 1)))


def describe_time(subject: Subject) -> Step:
    """Cut half of the heads of each layer."""
    return Step(
        "time",
        "Half the heads",
        "Half of the heads, half of the time?",
        "We cut half of the heads out of every layer. The model is now really smaller, and we time both in turn.",
        _halve(subject.mask),
        "How much of the time is saved?",
        "per cent",
        50,
        "Per cent of the time that the full model takes for the same texts.",
        {"to cut": "to remove a head's weights from the model; switching it off only sets its output to zero"},
        units="rounds",
    )


def measure_time(subject: Subject, progress: Progress) -> Answer:
    """Time the model with half of its heads, in turn with the full model."""
    mask = _halve(subject.mask)
    heads = mask.heads
    stay = mask.counts[0]
    with LatencyWorker(subject.bench) as worker:
        costs = worker.costs(mask, fresh=True, progress=progress)
    ratio = costs.ratio
    ceiling = costs.attention_share * (1 - stay / heads)
    saved = (1 - ratio.value) * 100
    interval = ((1 - ratio.high) * 100, (1 - ratio.low) * 100)
    before = costs.full.latency_ms
    after = costs.pruned.latency_ms
    assert before is not None
    assert after is not None
    texts = f"{before.batch} texts"
    if before.batch == 1:
        texts = "a text"
    change = "no measurable change"
    if ratio.excludes(1):
        change = f"{number(saved, 0)} % saved"
    found = (
        f"{before.median:.1f} ms before, {after.median:.1f} ms after, for {texts} of {before.length} tokens: {change}."
    )
    if costs.noisy:
        found += " Unreliable: the machine was busy. Measure again when it is idle."
    meaning = (
        f"Attention takes {percent(costs.attention_share, 0)} of the time. So {heads - stay} of {heads} heads per "
        f"layer can save at most about {percent(ceiling, 0)}: a part cannot save more than its share (Amdahl's law)."
    )
    share = percent(costs.attention_share, 0)
    headline = f"Half of the heads save {number(saved, 0)} % of the time, because attention takes only {share}."
    if costs.noisy or not ratio.excludes(1) or saved < 0:
        headline = f"Half of the heads save no measurable time: attention takes only {share} of it."
    return Answer(saved, interval, headline, found, meaning, before.repeats)


# Cache ----------------------------------------------------------------------------------------------------------


def describe_cache(subject: Subject) -> Step:
    """Cut all heads of a language model but CAHP's."""
    heads = choose_counting(subject).name_heads(subject)
    return Step(
        "cache",
        "Memory",
        "What does the cache save?",
        "A language model keeps the keys and values of all earlier tokens, instead of computing them again. "
        f"We cut {subject.total - subject.mask.count} of {subject.total} {heads.many} out.",
        subject.mask,
        "How much smaller is this cache?",
        "per cent",
        100,
        "Per cent of the bytes that the full model caches for a token.",
        {"to cut": "to remove weights from the model; switching off only sets an output to zero"},
        units="",
    )


def measure_cache(subject: Subject, progress: Progress) -> Answer:
    """Count the bytes of the cache with and without the pruned heads.

    Raises:
        OptionError: If the size of the cache is not known.
    """
    card = subject.bench.card
    mask = subject.mask
    cache = card.measure_cache(mask)
    if cache is None:
        raise OptionError(f"the size of the cache of {card.id} is not known; continue with the next step")
    found = f"{cache.full:,} bytes per token before, {cache.pruned:,} after."
    tokens = cache.shape.positions
    if tokens is not None:
        before = cache.shape.of_context(HeadMask.full(mask.layers, mask.heads), tokens) / _MIB
        after = cache.shape.of_context(mask, tokens) / _MIB
        found += f" At {tokens:,} tokens, the longest context, that is {before:,.0f} MiB and {after:,.0f} MiB."
    meaning = "The cache shrinks in proportion to what is cut."
    if card.attention_weights is not None:
        removed = (1 - mask.count / subject.total) * card.attention_weights
        meaning += (
            f" The model itself hardly does: attention is {percent(card.attention_weights)} of its weights, so they "
            f"shrink by {percent(removed)}."
        )
    headline = (
        f"Without {subject.total - mask.count} of {subject.total}, the cache is {percent(1 - cache.share, 0)} smaller."
    )
    return Answer(100 * (1 - cache.share), None, headline, found, meaning, 0)


# The last step: how few heads are enough? The board's own table of budgets answers ----------------------------------


#: The name of this step.
TURN = "turn"
#: Points of accuracy that may be lost, and the share of next words that must stay.
_POINTS = 1.0
_SHARE = 0.7


def find_swept(refitted: BudgetTable | None) -> str:
    """Return the recovery of the budgets that answer: a refit, if all of them are ``refitted``."""
    if refitted is None or any(row.outcomes is None for row in refitted.rows()):
        return NONE.name
    return QUICK.name


def describe_turn(subject: Subject) -> Step:
    """Ask for the fewest heads that are enough."""
    unit = subject.bench.card.unit
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
        HeadMask.full(subject.mask.layers, subject.mask.heads),
        f"What is the smallest number of {unit}s?",
        f"{unit}s",
        subject.total,
        f"The smallest number of {unit}s from which on every measured number reaches the goal.",
        units="",
    )


def answer_turn(step: Step, table: BudgetTable | None) -> Answer | None:
    """Return the fewest heads that are enough (None: not all budgets are measured yet, or none is enough)."""
    if table is None or table.full is None:
        return None
    rows = table.rows()
    if any(row.outcomes is None for row in rows):
        return None
    outcome = "agreement"
    if "accuracy" in table.full:
        outcome = "accuracy"
    enough = None
    for row in reversed(rows):
        if row.outcomes is None or not _is_enough(row.outcomes, table.full, outcome):
            break
        enough = row
    if enough is None or enough.outcomes is None:
        return None
    reached = enough.outcomes[outcome]
    label = OUTCOMES[outcome].label
    return Answer(
        float(enough.budget),
        None,
        f"{enough.budget} {step.unit} are enough: {label} {reached.text}, with all {table.full[outcome].text}.",
        f"{label.capitalize()} of all numbers of {step.unit} is on the Budget page.",
        "How few are enough depends on the goal, and on the texts that it is measured on.",
        reached.n,
        {"all heads": table.full[outcome], f"{enough.budget} {step.unit}": reached},
        outcome=outcome,
    )


def _is_enough(outcomes: Outcomes, full: Outcomes, outcome: str) -> bool:
    if outcome == "agreement":
        return outcomes[outcome].value >= _SHARE
    return 100 * (full[outcome].value - outcomes[outcome].value) <= _POINTS


def choose_best(guesses: Sequence[int], answer: Answer) -> int:
    """Return the smallest guess that is enough, or else the answer."""
    enough = int(answer.value)
    return min((guess for guess in guesses if guess >= enough), default=enough)
