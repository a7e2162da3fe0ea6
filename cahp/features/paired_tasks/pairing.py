"""Compare two runs of lm-evaluation-harness item by item.

The harness tells the score of each run with its own error. Here the same items are paired, so that hard items count for
no run: differences have an interval and a test, and the tests are corrected for their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from cahp.features.paired_tasks.samples import DIVIDED, LIKELIHOODS, Metric, SampleItem, Samples
from cahp.outcomes import (
    compare_signs,
    estimate_change,
    estimate_mean,
    estimate_ratio,
    mcnemar,
    to_perplexity,
    wilson,
)
from cahp.values import DataError, Estimate, Floats, holm_correction
from cahp.words import counted

#: The test of a difference: of items that are right or wrong, or of any values.
Test = Literal["McNemar", "random signs"]
#: The name of the filter that changes nothing.
_NO_FILTER = "none"


@dataclass(frozen=True)
class PairedRow:
    """A metric of two runs on the same ``n`` items: ``a``, ``b``, and the ``difference`` b - a with its ``p``.

    Of right and wrong answers the difference is in points, and ``only_a`` and ``only_b`` count the items that only one
    has right (None: other values). Of a perplexity it is the rise of the loss, in nats for each word or byte.
    ``p_holm`` is corrected for all rows. ``task`` is empty where the files do not say it.
    """

    task: str
    metric: str
    filter: str
    n: int
    a: Estimate
    b: Estimate
    difference: Estimate
    test: Test
    p: float
    p_holm: float
    only_a: int | None = None
    only_b: int | None = None

    @property
    def label(self) -> str:
        """The metric, with its filter where it has one."""
        label = self.metric
        if self.filter not in ("", _NO_FILTER):
            label += f" ({self.filter})"
        if self.task:
            label = f"{self.task}: {label}"
        return label


@dataclass(frozen=True)
class PairedSamples:
    """Two runs, compared: a row for each metric that both have, and what was left out."""

    a: str
    b: str
    rows: tuple[PairedRow, ...]
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the contents for a file."""
        return asdict(self)


def pair(a: Samples, b: Samples, *, task: str = "", seed: int = 42) -> PairedSamples:
    """Compare two runs on the items that both have; ``seed`` draws the bootstrap of intervals.

    Raises:
        DataError: If they have no item, or no metric, in common.
    """
    # A file without digests names items by number alone.
    notices: list[str] = []
    if a.by_digest != b.by_digest:
        raise DataError(
            f"only one of {a.name} and {b.name} has digests of its documents (doc_hash), so items cannot be matched; "
            "run both with the same version of lm-evaluation-harness"
        )
    if not a.by_digest:
        notices.append("items are matched by doc_id, since the files have no digests of documents")
    common = [key for key in a.items if key in b.items]
    if not common:
        raise DataError(
            f"{a.name} and {b.name} have no item in common; give two runs of one task, of the same version and split"
        )
    other = {key for key in common if _differ(a.items[key].target, b.items[key].target)}
    shared = [key for key in common if key not in other]
    if not shared:
        raise DataError(
            f"all {len(common):,} items that {a.name} and {b.name} have in common have another right answer in each; "
            "give two runs of one version of a task"
        )
    notices += _describe_unpaired(a, b, common, other)
    asked = sum(_differ(a.items[key].prompt, b.items[key].prompt) for key in shared)
    if asked:
        notices.append(
            f"{asked:,} of {len(shared):,} items have another prompt in each run (version, examples or template of the "
            "task), so the difference is not only that of the models"
        )
    pairs = [(a.items[key], b.items[key]) for key in shared]
    metrics = dict.fromkeys(metric for own, _ in pairs for metric in own.values)
    theirs = {metric for _, other_run in pairs for metric in other_run.values}
    rows = [_compare(metric, pairs, task, seed) for metric in metrics if metric in theirs]
    compared = [row for row in rows if row is not None]
    if not compared:
        raise DataError(
            f"{a.name} and {b.name} have no metric in common ({_name(metrics)} and {_name(theirs)}); give two runs of "
            "one task"
        )
    alone = sorted({metric.name for metric in theirs.symmetric_difference(metrics)})
    unread = sorted({*a.unread, *b.unread})
    if alone:
        notices.append(f"only one run has {', '.join(alone[:20])}")
    if unread:
        notices.append(f"some items have no number for {', '.join(unread[:20])}")
    return PairedSamples(a.name, b.name, correct_rows(compared), tuple(notices))


def correct_rows(rows: Sequence[PairedRow]) -> tuple[PairedRow, ...]:
    """Correct the tests of all rows for their number (Holm 1979)."""
    corrected = holm_correction([row.p for row in rows])
    return tuple(replace(row, p_holm=p) for row, p in zip(rows, corrected, strict=True))


def _differ(left: str, right: str) -> bool:
    return bool(left and right and left != right)


def _name(metrics: Any) -> str:
    return ", ".join(sorted({metric.name for metric in metrics})) or "none"


def _describe_unpaired(a: Samples, b: Samples, common: Sequence[object], other: set[Any]) -> list[str]:
    notices: list[str] = []
    for samples in (a, b):
        alone = len(samples) - len(common)
        if alone:
            notices.append(f"{alone:,} of {len(samples):,} items of {samples.name} are not in the other file")
    if other:
        notices.append(f"{counted(len(other), 'item')} with another right answer in each run left out")
    return notices


def _compare(metric: Metric, pairs: Sequence[tuple[SampleItem, SampleItem]], task: str, seed: int) -> PairedRow | None:
    """Compare one metric (None: no item has it in both runs)."""
    measured = [(own.values, other.values) for own, other in pairs if metric in own.values and metric in other.values]
    both = [(own[metric], other[metric]) for own, other in measured]
    # A perplexity is divided by the same words or bytes in both runs.
    both = [(own, other) for own, other in both if own.size == other.size]
    if not both:
        return None
    numbers = np.array([[own.number, other.number] for own, other in both], dtype=np.float64)
    first, second = numbers.T
    change = second - first
    of_answers = metric.name in LIKELIHOODS and bool((numbers <= 0).all())
    if metric.name in DIVIDED or of_answers:
        sizes = np.array([own.size for own, _ in both], dtype=np.float64)
        a, b = (_estimate_perplexity(metric.name, values, sizes, seed) for values in (first, second))
        # The rise of the loss, in the unit of both: bits, or nats where they are perplexities.
        rise = estimate_ratio(-change, sizes, seed)
        if metric.name == "bits_per_byte":
            rise = estimate_ratio(-change / np.log(2), sizes, seed, "bits")
        return PairedRow(task, *metric, len(both), a, b, rise, "random signs", compare_signs(change), 1.0)
    if np.isin(numbers, (0.0, 1.0)).all():
        only_a = int((change < 0).sum())
        only_b = int((change > 0).sum())
        a, b = (_estimate_share(values) for values in (first, second))
        points = estimate_change(change.astype(np.int64), seed)
        p = mcnemar(only_b, only_a)
        return PairedRow(task, *metric, len(both), a, b, points, "McNemar", p, 1.0, only_a, only_b)
    a, b = (estimate_mean(values, seed, "number") for values in (first, second))
    difference = estimate_mean(change, seed, "number")
    return PairedRow(task, *metric, len(both), a, b, difference, "random signs", compare_signs(change), 1.0)


def _estimate_share(values: Floats) -> Estimate:
    right = int(values.sum())
    return Estimate(right / len(values), wilson(right, len(values)), len(values), "share")


def _estimate_perplexity(name: str, log_likelihoods: Floats, sizes: Floats, seed: int) -> Estimate:
    if name == "bits_per_byte":
        return estimate_ratio(-log_likelihoods / np.log(2), sizes, seed, "bits")
    return to_perplexity(estimate_ratio(-log_likelihoods, sizes, seed))
