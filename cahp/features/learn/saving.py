"""Steps about what cutting heads saves: time, and the cache of a language model."""

from __future__ import annotations

import numpy as np

from cahp.features.learn.counting import choose_counting
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.run.latency_worker import LatencyWorker
from cahp.values import HeadMask, OptionError, Progress
from cahp.words import number, percent

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
