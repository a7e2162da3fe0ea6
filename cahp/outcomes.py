"""What is measured of a model's answers: one table of outcomes, each an estimate with its interval.

A new outcome is one row of ``OUTCOMES`` and its function. Terminal, screen, files and figures read the table.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.tasks.answers import Evaluation
from cahp.values import Bools, Estimate, Floats, Interval, Ints, JsonObject, Names, Unit

#: The models that a run evaluates: with all heads, without the pruned ones, and recovered after pruning.
STATES = ("full", "pruned", "recovered")
#: The outcomes of one model on one set of texts, by name.
Outcomes = Mapping[str, Estimate]

#: Resamples of a change in accuracy, and of a mean over texts.
_RESAMPLES = 10_000
_MEAN_RESAMPLES = 2_000
#: Above this loss a perplexity is no finite number.
_LARGEST_LOSS = 700.0
#: Random flips of signs.
_FLIPS = 9_999
#: Flips that are drawn at once: all would take too much memory. A multiple of four draws the same signs as all at once.
_BLOCK = 64
#: Differences of rounding only are none, in nats or shares.
_EQUAL = 1e-6
#: Bins of the confidence, for the calibration error.
_BINS = 15


@dataclass(frozen=True)
class Outcome:
    """One row: a name for files, words for people, and the function that estimates it.

    ``label`` names it on screen and in the terminal, ``difference`` tells that it compares with the full model's
    answers on the same texts, ``lower_is_better`` its direction. ``needs`` tells what answers must have
    (``Evaluation.has``; empty: nothing). A ``headline`` has its own figure and curve on the board. ``estimate`` takes
    the evaluation, the full model's evaluation (itself where ``difference`` is False) and the seed of the bootstrap.
    """

    name: str
    label: str
    unit: Unit
    estimate: Callable[[Evaluation, Evaluation, int], Estimate]
    needs: Literal["", "classes", "labels", "losses", "tokens"] = "labels"
    difference: bool = False
    lower_is_better: bool = False
    headline: bool = False

    @property
    def needs_labels(self) -> bool:
        """Whether it needs labelled texts."""
        return self.needs == "labels"

    @property
    def row_label(self) -> str:
        """The label of a table's row, with the unit that its numbers do not show."""
        if self.unit == "nats":
            return f"{self.label} ({self.unit})"
        return self.label


def measure(evaluation: Evaluation, *, full: Evaluation | None = None, seed: int = 42) -> dict[str, Estimate]:
    """Estimate all outcomes of an evaluation; without ``full`` (the full model's) those that need no comparison.

    Only those are estimated for which the answers have what they need; ``full`` may be the evaluation itself.

    Raises:
        ValueError: If there are no texts, or ``full`` is of other texts.
    """
    if not len(evaluation):
        raise ValueError("no texts to evaluate")
    rows = [row for row in OUTCOMES.values() if not row.needs or row.needs in evaluation.has]
    if full is None:
        # The others do not compare, and ignore it.
        full = evaluation
        rows = [row for row in rows if not row.difference]
    return {row.name: row.estimate(evaluation, full, seed) for row in rows}


def main_outcome(outcomes: Outcomes) -> tuple[Outcome, Estimate]:
    """Return the outcome that stands for all: the accuracy, or where there is none the agreement."""
    name = "agreement"
    if "accuracy" in outcomes:
        name = "accuracy"
    return OUTCOMES[name], outcomes[name]


def wilson(count: int, total: int) -> Interval:
    """Return Wilson's 95 % interval of the proportion ``count / total``."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def compare_signs(differences: Floats) -> float:
    """Return the two-sided probability that random signs of ``differences (n,)`` give as large a mean.

    Of shares it is close to the exact test of McNemar (1947), and it needs no distribution of nats.
    """
    own = np.where(np.abs(differences) < _EQUAL, 0.0, differences)
    own = own[own != 0]
    if not len(own):
        return 1.0
    rng = np.random.default_rng(0)
    larger = 0
    for start in range(0, _FLIPS, _BLOCK):
        bits = rng.integers(0, 2, (min(_BLOCK, _FLIPS - start), len(own)), dtype=np.int8)
        sums = (2.0 * bits - 1) @ own
        larger += int((np.abs(sums) >= abs(own.sum()) * (1 - 1e-9)).sum())
    return (1 + larger) / (1 + _FLIPS)


def same_predictions(evaluation: Evaluation, full: Evaluation) -> Bools:
    """Tell for each text, or each token of a language model, whether both models predict the same.

    Raises:
        ValueError: If the two evaluations are of different texts.
    """
    if not np.array_equal(evaluation.labels, full.labels) or len(evaluation.predictions) != len(full.predictions):
        raise ValueError("the two evaluations are of different texts")
    return np.asarray(evaluation.predictions == full.predictions)


def _share(values: Bools) -> Estimate:
    count = int(values.sum())
    total = len(values)
    return Estimate(count / total, wilson(count, total), total, "share")


@lru_cache(maxsize=4)
def _resamples(units: int, seed: int) -> NDArray[np.uint8]:
    """How often each resample holds each text, ``(resamples, units)``; the same for every mask and every outcome."""
    rng = np.random.default_rng(seed)
    counts = np.empty((_MEAN_RESAMPLES, units), dtype=np.uint8)
    for row in counts:
        row[:] = np.bincount(rng.integers(units, size=units), minlength=units)
    return counts


def estimate_mean(values: Floats, seed: int, unit: Unit = "nats", *, units: Ints | None = None) -> Estimate:
    """Estimate a mean over texts (or heads); its interval is a bootstrap, paired for all values of one ``seed``.

    ``units`` are the numbers of the independent units that the values belong to, if these are not independent: whole
    units are then drawn.
    """
    return estimate_ratio(values, np.ones(len(values)), seed, unit, units=units)


def estimate_ratio(values: Floats, sizes: Floats, seed: int, unit: Unit, *, units: Ints | None = None) -> Estimate:
    """Estimate the sum of ``values`` divided by the sum of ``sizes``; see ``estimate_mean``."""
    mean = float(values.sum() / sizes.sum())
    count = len(values)
    if units is not None:
        units, member = np.unique(units, return_inverse=True)
        count = len(units)
    # The spread of a single unit is not known.
    if not math.isfinite(mean) or count < 2:
        return Estimate(mean, None, count, unit)
    away: Floats = values - mean * sizes
    if units is not None:
        away = np.bincount(member, weights=away).astype(np.float64)
        sizes = np.bincount(member, weights=sizes).astype(np.float64)
    draws = _resamples(count, seed)
    moved = draws @ away.astype(np.float32) / (draws @ sizes.astype(np.float32))
    low, high = np.percentile(moved, [2.5, 97.5])
    return Estimate(mean, (mean + float(low), mean + float(high)), count, unit)


def _agreement(evaluation: Evaluation, full: Evaluation, seed: int) -> Estimate:
    matches = same_predictions(evaluation, full)
    if evaluation.units is None:
        same = _share(matches)
    else:
        same = estimate_mean(matches.astype(np.float64), seed, "share", units=evaluation.units)
    if evaluation is full:
        # A model agrees with itself on every text.
        return replace(same, ci95=(1.0, 1.0))
    return same


def _loss(evaluation: Evaluation, seed: int) -> Estimate:
    return estimate_mean(evaluation.losses, seed, units=evaluation.units)


def to_perplexity(loss: Estimate) -> Estimate:
    """The perplexity of a mean ``loss`` in nats per token."""
    low, value, high = np.exp(np.minimum([loss.low, loss.value, loss.high], _LARGEST_LOSS)).tolist()
    interval = None
    if loss.ci95 is not None:
        interval = low, high
    return Estimate(value, interval, loss.n, "number")


def _bits_per_byte(evaluation: Any, seed: int) -> Estimate:
    bits = evaluation.losses / math.log(2)
    return estimate_ratio(bits, evaluation.sizes.astype(np.float64), seed, "bits", units=evaluation.units)


def _copying(evaluation: Any, seed: int) -> Estimate:
    losses, units = evaluation.copying
    if not len(losses):
        return Estimate(math.nan, None, 0, "nats")
    return estimate_mean(losses, seed, units=units)


def _divergence(evaluation: Evaluation, full: Evaluation, seed: int) -> Estimate:
    same_predictions(evaluation, full)
    return estimate_mean(evaluation.divergences(full), seed, units=evaluation.units)


def _calibration_error(evaluation: Evaluation) -> Estimate:
    """Expected calibration error: mean gap between confidence and accuracy over equally wide bins of confidence."""
    confidence = np.exp(evaluation.log_probabilities.max(axis=1))
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, weights=evaluation.correct - confidence, minlength=_BINS)
    return Estimate(float(np.abs(gaps).sum() / len(evaluation)), None, len(evaluation), "share")


def _macro_f1(evaluation: Evaluation) -> Estimate:
    from sklearn.metrics import f1_score

    # Over the classes that occur: an absent class has no F1.
    present = np.unique(evaluation.labels)
    value = f1_score(evaluation.labels, evaluation.predictions, labels=present, average="macro", zero_division=0.0)
    return Estimate(float(value), None, len(evaluation), "share")


def accuracy_change(evaluation: Evaluation, full: Evaluation, seed: int = 42) -> Estimate:
    """Estimate the change in accuracy against ``full`` in points; the interval is a paired bootstrap over texts."""
    same_predictions(evaluation, full)
    if evaluation is full:
        return Estimate(0.0, (0.0, 0.0), len(full), "points")
    return estimate_change(evaluation.correct.astype(np.int64) - full.correct.astype(np.int64), seed)


def estimate_change(change: Ints, seed: int) -> Estimate:
    """Estimate the mean of changes ``(n,)`` that are -1, 0 or 1, in points; the interval is a bootstrap over them.

    Resamples of changes that are all equal do not vary. Their interval is that of Agresti and Min (2005): half a change
    for the better and half a one for the worse are added, as are two changes in all.
    """
    total = len(change)
    if (change == change[0]).all():
        up = float((change > 0).sum()) + 0.5
        down = float((change < 0).sum()) + 0.5
        middle = (up - down) / (total + 2)
        reach = NormalDist().inv_cdf(0.975) * math.sqrt(up + down - (up - down) ** 2 / (total + 2)) / (total + 2)
        ends = np.clip([middle - reach, middle + reach], -1, 1) * 100
        return Estimate(float(change[0]) * 100, (float(ends[0]), float(ends[1])), total, "points")
    # A resample of values that are -1, 0 or 1 is a multinomial draw of their counts.
    shares = np.array([(change == value).mean() for value in (-1, 0, 1)])
    draws = np.random.default_rng(seed).multinomial(total, shares, size=_RESAMPLES) @ np.array([-1, 0, 1]) / total
    low, high = np.percentile(draws * 100, [2.5, 97.5])
    return Estimate(float(change.mean() * 100), (float(low), float(high)), total, "points")


#: All outcomes by name, in the order in which they are shown.
OUTCOMES = {
    row.name: row
    for row in (
        Outcome(
            "kl",
            "KL divergence from the full model",
            "nats",
            _divergence,
            needs="",
            difference=True,
            lower_is_better=True,
            headline=True,
        ),
        Outcome(
            "agreement",
            "agreement with the full model",
            "share",
            _agreement,
            needs="",
            difference=True,
            headline=True,
        ),
        Outcome("accuracy", "accuracy", "share", lambda found, full, seed: _share(found.correct), headline=True),
        Outcome("accuracy_change", "change in accuracy", "points", accuracy_change, difference=True),
        Outcome("macro_f1", "macro-F1 (mean over classes)", "share", lambda found, full, seed: _macro_f1(found)),
        Outcome(
            "perplexity",
            "perplexity",
            "number",
            lambda found, full, seed: to_perplexity(_loss(found, seed)),
            needs="tokens",
            lower_is_better=True,
            headline=True,
        ),
        Outcome(
            "bits_per_byte",
            "bits per byte",
            "bits",
            lambda found, full, seed: _bits_per_byte(found, seed),
            needs="tokens",
            lower_is_better=True,
        ),
        Outcome(
            "copying",
            "loss on repeated random tokens",
            "nats",
            lambda found, full, seed: _copying(found, seed),
            needs="tokens",
            lower_is_better=True,
        ),
        Outcome(
            "nll",
            "cross-entropy",
            "nats",
            lambda found, full, seed: _loss(found, seed),
            needs="losses",
            lower_is_better=True,
        ),
        Outcome(
            "ece",
            "calibration error",
            "share",
            lambda found, full, seed: _calibration_error(found),
            lower_is_better=True,
        ),
    )
}
#: The outcomes with a figure and a curve of their own, those that most people know first.
HEADLINES = tuple(sorted((row for row in OUTCOMES.values() if row.headline), key=lambda row: not row.needs_labels))


# The fields ``metrics`` and ``delta`` of files ------------------------------------------------------------------

#: Outcomes whose value stands in ``metrics`` of a file, by the field that holds it.
_FIELDS = {"accuracy": "accuracy", "macro_f1": "macro_f1", "loss": "nll", "agreement": "agreement"}


def list_further() -> Names:
    """List the outcomes that neither ``metrics`` nor ``delta`` of a file hold; those of tokens come last."""
    further = [row for row in OUTCOMES.values() if row.name not in (*_FIELDS.values(), "accuracy_change")]
    return tuple(row.name for row in sorted(further, key=lambda row: row.needs == "tokens"))


def finite(outcomes: Outcomes) -> dict[str, Estimate]:
    """Return the outcomes that a file can hold: those with a finite value."""
    return {name: estimate for name, estimate in outcomes.items() if math.isfinite(estimate.value)}


def to_metrics(outcomes: Outcomes) -> JsonObject:
    """Return outcomes as ``metrics`` of ``run.json`` holds them: values, ``n`` and the interval of the accuracy."""
    metrics: JsonObject = dict.fromkeys(_FIELDS)
    for field, name in _FIELDS.items():
        if name in outcomes and math.isfinite(outcomes[name].value):
            metrics[field] = outcomes[name].value
    metrics["n"] = main_outcome(outcomes)[1].n
    metrics["ci95"] = None
    if "accuracy" in outcomes:
        metrics["ci95"] = outcomes["accuracy"].ci95
    return metrics


def to_delta(outcomes: Outcomes) -> JsonObject | None:
    """Return the change in accuracy as ``delta`` of ``run.json`` holds it (None: not measured)."""
    change = outcomes.get("accuracy_change")
    if change is None:
        return None
    return {"pp": change.value, "ci95": change.ci95}
