"""Which rows to work on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cahp.data.table import listed
from cahp.values import Ints, OptionError, Texts


def sample(
    texts: Texts, limit: int | None, *, how: Literal["stratified", "head"] = "stratified", seed: int = 42
) -> tuple[Texts, tuple[str, ...]]:
    """At most ``limit`` rows (None: all), and what a person should know about them.

    ``"head"`` takes the first rows as they stand. ``"stratified"`` draws from each class in proportion (largest
    remainder, and at least one of every class if the limit allows), keeps the file's order, and shuffles the
    result if the file is sorted by label: batches of one class would bias whatever is averaged over batches.

    Raises:
        OptionError: If the limit is below 1 or ``how`` is unknown.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"A sample of {limit} texts is impossible; the limit must be at least 1.")
    if how not in ("stratified", "head"):
        raise OptionError(f"The sampling {how!r} is unknown; use 'stratified' or 'head'.")
    size = len(texts) if limit is None else min(limit, len(texts))
    notices = []
    rows: Ints = np.arange(size)
    if how == "stratified":
        random = np.random.default_rng(seed)
        if size < len(texts):
            rows = _stratified(texts, size, random)
        if _is_sorted(texts.labels):
            rows = random.permutation(rows)
            notices.append(f"the texts were sorted by label and have been shuffled (seed {seed}).")
    drawn = texts if np.array_equal(rows, np.arange(len(texts))) else texts.take(rows)
    lost = np.flatnonzero((texts.class_counts > 0) & (drawn.class_counts == 0))
    if len(lost):
        names = listed(texts.classes[index] for index in lost)
        notices.append(f"the sample of {size} texts has none of the class {names}: raise the limit.")
    return drawn, tuple(notices)


def _stratified(texts: Texts, size: int, random: np.random.Generator) -> NDArray[np.int64]:
    quotas = _quotas(texts.class_counts, size)
    chosen = [random.permutation(np.flatnonzero(texts.labels == index))[:quota] for index, quota in enumerate(quotas)]
    return np.sort(np.concatenate(chosen))


def _quotas(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Rows of each class, summing to ``size``; the lower class index wins a tie."""
    # In units of 1/total, so that proportions are exact integers.
    total = int(counts.sum())
    ideal = counts * size
    least = ((counts > 0) & (size >= np.count_nonzero(counts))).astype(np.int64)
    quotas = np.maximum(ideal // total, least)
    while quotas.sum() < size:
        quotas[np.argmax(ideal - quotas * total)] += 1
    while quotas.sum() > size:
        surplus = np.where(quotas > least, quotas * total - ideal, np.iinfo(np.int64).min)
        quotas[np.argmax(surplus)] -= 1
    return quotas


def _is_sorted(labels: NDArray[np.int64]) -> bool:
    """Whether each class is one block; single rows of each class prove nothing."""
    classes = len(np.unique(labels))
    blocks = 1 + np.count_nonzero(np.diff(labels))
    return bool(1 < classes == blocks < len(labels))
