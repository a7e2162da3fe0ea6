"""Steps about CAHP's choice of heads: beside random selections, and after a refit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cahp.features.learn.counting import (
    estimate_accuracy,
    estimate_agreement,
    estimate_copying,
    state_perplexity,
)
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.outcomes import OUTCOMES, accuracy_change, estimate_mean, same_predictions
from cahp.recoveries import RefitReport
from cahp.stages.selection import top
from cahp.tasks.answers import Evaluation
from cahp.values import Estimate, HeadMask, Progress
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
