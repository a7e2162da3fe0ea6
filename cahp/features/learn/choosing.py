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


def _rate_choice(as_good: int, *, clear: str, level: str) -> str:
    """Return the verdict on a choice that ``as_good`` of ``DRAWS`` random selections equal, as sentences."""
    if as_good <= DRAWS // 20:
        return clear
    if as_good < DRAWS // 2:
        return "The choice helps, but some random selections come close."
    return level


def describe_random_accuracy(subject: Subject) -> Step:
    """Compare the accuracy of CAHP's selection with that of random ones."""
    kept = subject.mask.count
    return Step(
        "random",
        "Choose at random instead",
        f"CAHP keeps {kept} of {subject.total} heads. We keep as many random heads, {DRAWS} times, and compare "
        "accuracy.",
        f"How many of the {DRAWS} random selections are at least as accurate as CAHP's?",
        "selections",
        DRAWS,
        f"A random selection is {kept} heads drawn from {subject.total}, at least one per layer. It counts if its "
        f"accuracy on {len(subject.texts)} texts is at least CAHP's.",
        {"CAHP": _CAHP},
        mask=subject.mask,
    )


def measure_random_accuracy(subject: Subject, progress: Progress) -> Answer:
    """Count the random selections that are at least as accurate as CAHP's, and measure what a refit leaves of that."""
    masks = _draw_masks(subject)
    full, chosen, *drawn = subject.evaluate([None, subject.mask, *masks], progress)
    everything = estimate_accuracy(full)
    ours = estimate_accuracy(chosen)
    bars = {"all heads": everything, f"with CAHP's {subject.mask.count} heads": ours}
    shares = _list_accuracies(drawn)
    draws = {f"{DRAWS} random selections": shares}
    as_good = sum(share >= ours.value for share in shares)
    found = (
        f"{as_good} of {DRAWS} random selections are at least as accurate. Accuracy: CAHP {ours.text}; random "
        f"{percent(min(shares))} to {percent(max(shares))}, median {percent(float(np.median(shares)))}; all heads "
        f"{everything.text}."
    )
    meaning = _rate_choice(
        as_good,
        clear="The choice of heads matters: random selections are less accurate.",
        level="Random selections are as accurate: with this many heads and texts, the choice makes no visible "
        "difference.",
    )
    refitted = [subject.mask, *masks[:REFITTED_DRAWS]]
    bench = subject.bench
    if bench.recoveries.no_refit is None and all(map(bench.measurements.can_cut, refitted)):
        best, *others = subject.evaluate(refitted, progress, refit=True)
        bars["CAHP's after refit"] = estimate_accuracy(best)
        draws[f"{REFITTED_DRAWS} of them after refit"] = _list_accuracies(others)
        meaning += f" {_compare_refitted(chosen, drawn[:REFITTED_DRAWS], best, others)}"
    return Answer(float(as_good), None, found, meaning, len(full), bars, draws)


def _compare_refitted(chosen: Evaluation, drawn: list[Evaluation], best: Evaluation, others: list[Evaluation]) -> str:
    """Compare the lead of CAHP's ``chosen`` heads over some ``drawn`` ones with that after a refit of each."""
    shares = _list_accuracies(others)
    lead = accuracy_change(chosen, _find_median(drawn)).value
    left = accuracy_change(best, _find_median(others))
    verdict = "no measurable lead is left with these texts."
    if left.low > 0:
        verdict = "a part of the lead is left."
    return (
        f"After a refit (next step), the accuracy of CAHP's selection is {percent(float(best.correct.mean()))}. The "
        f"first {len(others)} random ones have {percent(min(shares))} to {percent(max(shares))}. Its lead over the "
        f"median was {signed(lead)} points and is now {signed(left.value)} ({left.span}): {verdict}"
    )


def _list_accuracies(drawn: list[Evaluation]) -> tuple[float, ...]:
    return tuple(float(evaluation.correct.mean()) for evaluation in drawn)


def _find_median(drawn: list[Evaluation]) -> Evaluation:
    return sorted(drawn, key=lambda evaluation: float(evaluation.correct.mean()))[len(drawn) // 2]


def describe_random_divergence(subject: Subject) -> Step:
    """Compare the KL divergence of CAHP's selection with that of random ones."""
    kept = subject.mask.count
    return Step(
        "random",
        "Choose at random instead",
        f"CAHP keeps {kept} of {subject.total}. We keep as many at random, {DRAWS} times, and compare the KL "
        "divergence from the full model.",
        f"How many of the {DRAWS} random selections are at least as close to the full model?",
        "selections",
        DRAWS,
        f"A random selection keeps {kept} of {subject.total}, at least one per layer. It counts if its KL divergence "
        "is at most CAHP's.",
        {
            "CAHP": _CAHP,
            "KL divergence": "how far predicted probabilities are from those of the full model, in nats; 0: equal",
        },
        units="documents",
        mask=subject.mask,
    )


def measure_random_divergence(subject: Subject, progress: Progress) -> Answer:
    """Count the random selections that are at least as close to the full model as CAHP's."""
    full, chosen, *drawn = subject.evaluate([None, subject.mask, *_draw_masks(subject)], progress)
    ours = OUTCOMES["kl"].estimate(chosen, full, 0)
    others = [OUTCOMES["kl"].estimate(evaluation, full, 0).value for evaluation in drawn]
    as_good = sum(value <= ours.value for value in others)
    found = (
        f"{as_good} of {DRAWS} random selections are at least as close. KL divergence in nats per token: CAHP "
        f"{ours.text} ({ours.span}); random {number(min(others), 2)} to {number(max(others), 2)}, median "
        f"{number(float(np.median(others)), 2)}."
    )
    meaning = _rate_choice(
        as_good,
        clear="The choice matters: random selections are further from the full model.",
        level="Random selections are as close: at this number, CAHP's choice is no better than chance.",
    )
    bars = {
        "all heads": estimate_agreement(full, full),
        f"with CAHP's {subject.mask.count}": estimate_agreement(chosen, full),
    }
    agreements = tuple(estimate_agreement(evaluation, full).value for evaluation in drawn)
    draws = {f"{DRAWS} random selections": agreements}
    return Answer(float(as_good), None, found, meaning, ours.n, bars, draws, outcome="agreement")


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
    """Refit the model.

    Raises:
        OptionError: If it cannot be refitted.
    """
    bench = subject.bench
    if bench.recoveries.no_refit:
        raise OptionError(f"{bench.recoveries.no_refit}, so this step cannot be shown; continue with the next one")
    full, before = subject.evaluate([None, subject.mask], progress)
    recovered = bench.recoveries.refit(subject.mask)
    after = bench.measurements.evaluate(subject.sample, mask=subject.mask, recovered=recovered)
    return _Refit(full, before, after, recovered.report)


def describe_refit_of_accuracy(subject: Subject) -> Step:
    """Refit the output weights of a classifier."""
    return Step(
        "refit",
        "Recover without training",
        f"With {subject.mask.count} heads, the rest of the model gets inputs that it was not trained on. A refit "
        "solves for new output weights in one pass, without labels and without training.",
        "How many points of accuracy does the refit regain?",
        "points",
        50,
        "One point is one more correct answer per hundred texts.",
        {"output weights": _OUTPUT_WEIGHTS, "label": "the correct class of a text, assigned by people"},
        mask=subject.mask,
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
    return Answer(gain.value, gain.ci95, found, meaning, gain.n, bars)


def describe_refit_of_agreement(subject: Subject) -> Step:
    """Refit the output weights of a language model."""
    return Step(
        "refit",
        "Recover without training",
        f"With {subject.mask.count} of {subject.total}, the rest of the model gets inputs that it was not trained on. "
        "A refit solves for new output weights in closed form, on ordinary texts.",
        "How many points of agreement with the full model does the refit regain?",
        "points",
        60,
        "One point is one more token of a hundred at which both models predict the same.",
        {"output weights": _OUTPUT_WEIGHTS},
        units="documents",
        mask=subject.mask,
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
    return Answer(gain.value, gain.ci95, found, meaning, gain.n, bars, outcome="agreement")
