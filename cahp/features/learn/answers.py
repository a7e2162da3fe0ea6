"""The course of a model, and the measured answers to the six steps of ``lessons``, which are about a classifier.

Those of a language model are in ``token_lessons``.

Every sentence is built from measurements, also where a model does not behave as textbooks say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from cahp.features.learn import token_lessons
from cahp.features.learn.lessons import (
    CONTROLS,
    DRAWS,
    REFITTED_DRAWS,
    STAGE,
    Answer,
    Step,
    Subject,
    halved,
    random_masks,
    rate_choice,
    steps,
)
from cahp.outcomes import OUTCOMES, accuracy_change, changed_rows, wilson
from cahp.run.latency_worker import LatencyWorker
from cahp.tasks.answers import Evaluation
from cahp.values import Estimate, HeadMask, OptionError, Progress, silent
from cahp.words import number, percent, signed


def course(subject: Subject) -> list[Step]:
    """Return the six steps about a model in order."""
    return token_lessons.steps(subject) if subject.texts.task.predicts_often else steps(subject)


def measure(step: str, subject: Subject, *, progress: Progress = silent) -> Answer:
    """Measure the answer to a step; ``progress`` counts variants of the model, beside the progress of its bench.

    Raises:
        KeyError: If there is no such step.
        OptionError: If the texts of a classifier have no labels: its steps are about accuracy.
    """
    if subject.texts.task.predicts_often:
        return token_lessons.MEASURES[step](subject, progress)
    if not subject.texts.labelled:
        raise OptionError("the steps are about accuracy, which needs labels; open labelled texts")
    return _MEASURES[step](subject, progress)


# The six --------------------------------------------------------------------------------------------------------


def _one_head(subject: Subject, progress: Progress) -> Answer:
    layer, head = subject.strongest
    name = f"without layer {layer}, head {head}"
    full, less = _evaluate(subject, [None, subject.without([layer * subject.mask.heads + head])], progress)
    changed = len(changed_rows(less, full))
    if changed <= 0.05 * len(full):
        meaning = "Even without the head of the largest gradient, the predictions hardly change."
    else:
        meaning = "Without this head many predictions change: it does something that the other heads do not."
    return _changes(changed, full, {"all heads": full, name: less}, meaning)


def _one_cluster(subject: Subject, progress: Progress) -> Answer:
    members, representative = subject.largest_cluster
    gone = [head for head in members if head != representative]
    full, less = _evaluate(subject, [None, subject.without(gone)], progress)
    changed = len(changed_rows(less, full))
    if changed <= 0.1 * len(full):
        meaning = "Most of a cluster can go: with one of its heads left, the predictions hardly change."
    else:
        meaning = (
            "Many predictions change: these heads separate the classes in a similar way, but they are no copies of "
            "each other."
        )
    return _changes(changed, full, {"all heads": full, f"without {len(gone)} of the cluster": less}, meaning)


def _representatives(subject: Subject, progress: Progress) -> Answer:
    kept = subject.mask.flat
    others = np.flatnonzero(~subject.mask.keep.ravel())
    # A large selection leaves fewer other heads than it has itself.
    size = min(len(kept), len(others))
    drawn = [np.random.default_rng(seed).choice(others, size=size, replace=False) for seed in range(CONTROLS)]
    masks = [None, subject.without(kept), *(subject.without(heads) for heads in drawn)]
    full, less, *controls = _evaluate(subject, masks, progress)
    changed = len(changed_rows(less, full))
    beside = sorted(len(changed_rows(control, full)) for control in controls)
    bars = {"all heads": full, f"without the {len(kept)} representatives": less}
    bars |= {f"without {size} others, draw {number}": control for number, control in enumerate(controls, start=1)}
    said = f"Without {size} of the others instead, {beside[0]} to {beside[-1]} answers changed ({CONTROLS} draws)."
    return _changes(changed, full, bars, f"{said} {_compare_with_draws(changed, beside, len(full))}")


def _compare_with_draws(changed: int, drawn: Sequence[int], n: int) -> str:
    """Compare how many of ``n`` predictions change without the representatives and in random draws, in order."""
    if drawn[0] <= changed <= drawn[-1]:
        return (
            "Without the representatives as many predictions change, within the range of the draws: other heads "
            "replace them."
        )
    many = "more" if changed > drawn[-1] else "fewer"
    # A count whose interval reaches the draws may differ by chance.
    low, high = (share * n for share in wilson(changed, n))
    if low <= drawn[-1] and high >= drawn[0]:
        return (
            f"Without the representatives {many} predictions change than in any draw, but with {n} texts this can be "
            "chance."
        )
    reason = "they do what no other head does" if many == "more" else "the other heads replace them"
    return f"Without the representatives {many} predictions change: {reason}."


def _random(subject: Subject, progress: Progress) -> Answer:
    masks = random_masks(subject)
    full, chosen, *drawn = _evaluate(subject, [None, subject.mask, *masks], progress)
    bars = _accuracies({"all heads": full, f"with CAHP's {subject.mask.count} heads": chosen})
    everything, ours = bars.values()
    shares = _shares(drawn)
    draws = {f"{DRAWS} random selections": shares}
    as_good = sum(share >= ours.value for share in shares)
    found = (
        f"{as_good} of {DRAWS} random selections are at least as accurate. Accuracy: CAHP {ours.text}; random "
        f"{percent(min(shares))} to {percent(max(shares))}, median {percent(float(np.median(shares)))}; all heads "
        f"{everything.text}."
    )
    meaning = rate_choice(
        as_good,
        clear="The choice of heads matters: random selections are less accurate.",
        level="Random selections are as accurate: with this many heads and texts, the choice makes no visible "
        "difference.",
    )
    refitted = [subject.mask, *masks[:REFITTED_DRAWS]]
    if subject.bench.recoveries.no_refit is None and all(map(subject.bench.measurements.can_cut, refitted)):
        best, *others = _evaluate(subject, refitted, progress, refit=True)
        bars |= _accuracies({"CAHP's after refit": best})
        shares = draws[f"{REFITTED_DRAWS} of them after refit"] = _shares(others)
        lead = accuracy_change(chosen, _find_median(drawn[:REFITTED_DRAWS])).value
        left = accuracy_change(best, _find_median(others))
        meaning += (
            f" After a refit (next step), the accuracy of CAHP's selection is {percent(float(best.correct.mean()))}. "
            f"The first {len(others)} random ones have {percent(min(shares))} to {percent(max(shares))}. Its lead "
            f"over the median was {signed(lead)} points and is now {signed(left.value)} ({left.span}): "
        )
        meaning += "a part of the lead is left." if left.low > 0 else "no measurable lead is left with these texts."
    return Answer(float(as_good), None, found, meaning, len(full), bars, draws)


def _find_median(drawn: list[Evaluation]) -> Evaluation:
    return sorted(drawn, key=lambda one: float(one.correct.mean()))[len(drawn) // 2]


def _refit(subject: Subject, progress: Progress) -> Answer:
    bench = subject.bench
    if bench.recoveries.no_refit:
        raise OptionError(f"{bench.recoveries.no_refit}, so this step cannot be shown; continue with the next one")
    evaluate = bench.measurements.evaluate
    full, before = evaluate(subject.texts), evaluate(subject.texts, mask=subject.mask)
    recovered = bench.recoveries.refit(subject.mask)
    report, after = recovered.report, evaluate(subject.texts, mask=subject.mask, recovered=recovered)
    won = accuracy_change(after, before)
    bars = _accuracies({"all heads": full, "after refit": after, "before refit": before})
    found = (
        f"Accuracy {bars['before refit'].text} before, {bars['after refit'].text} after ({signed(won.value)} points), "
        f"{bars['all heads'].text} with all heads. The refit used {report.examples} texts without labels."
    )
    if not report.accepted:
        meaning = f"The refit was rejected, so nothing changed: {report.reason}."
    elif won.low > 0:
        meaning = (
            "Much of the loss comes from how the remaining heads are mixed, and refitted output weights recover it."
        )
    elif won.excludes(0):
        meaning = "The refit lowered the accuracy on these texts, although held-out texts had accepted it."
    else:
        meaning = "No measurable change: there was little to recover, or these texts are too few to measure it."
    return Answer(won.value, won.ci95, found, meaning, len(full), bars)


def _time(subject: Subject, progress: Progress) -> Answer:
    mask = halved(subject.mask)
    heads, stay = mask.heads, mask.counts[0]
    with LatencyWorker(subject.bench) as worker:
        costs = worker.costs(mask, fresh=True, progress=progress)
    ratio, share = costs.ratio, costs.attention_share
    ceiling = share * (1 - stay / heads)
    saved, interval = (1 - ratio.value) * 100, ((1 - ratio.high) * 100, (1 - ratio.low) * 100)
    latency, after = costs.full.latency_ms, costs.pruned.latency_ms
    assert latency is not None
    assert after is not None
    texts = "a text" if latency.batch == 1 else f"{latency.batch} texts"
    found = (
        f"{latency.median:.1f} ms before, {after.median:.1f} ms after, for {texts} of "
        f"{latency.length} tokens: {f'{number(saved, 0)} % saved' if ratio.excludes(1) else 'no measurable change'}."
    )
    if costs.noisy:
        found += " Unreliable: the machine was busy. Measure again when it is idle."
    meaning = (
        f"Attention takes {percent(share, 0)} of the time. So {heads - stay} of {heads} heads per layer can save at "
        f"most about {percent(ceiling, 0)}: a part cannot save more than its share (Amdahl's law)."
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


def _evaluate(
    subject: Subject, masks: Sequence[HeadMask | None], progress: Progress, *, refit: bool = False
) -> list[Evaluation]:
    """Evaluate the model under each mask (None: all heads), or after a refit, which must be possible."""
    evaluations: list[Evaluation] = []
    bench = subject.bench
    for done, mask in enumerate(masks):
        progress(STAGE, done, len(masks))
        recovered = bench.recoveries.refit(mask) if refit and mask is not None else None
        evaluations.append(bench.measurements.evaluate(subject.texts, mask=mask, recovered=recovered))
    return evaluations


def _changes(changed: int, full: Evaluation, variants: Mapping[str, Evaluation], meaning: str) -> Answer:
    n = len(full)
    low, high = wilson(changed, n)
    bars = _accuracies(variants)
    before, after, *_ = bars.values()
    found = f"{changed} of {n} answers changed. Accuracy: {before.text} with all heads, {after.text} now."
    return Answer(float(changed), (low * n, high * n), found, meaning, n, bars)


def _accuracies(variants: Mapping[str, Evaluation]) -> dict[str, Estimate]:
    return {name: OUTCOMES["accuracy"].estimate(variant, variant, 0) for name, variant in variants.items()}


def _shares(variants: Iterable[Evaluation]) -> tuple[float, ...]:
    return tuple(float(variant.correct.mean()) for variant in variants)
