"""The check of attribution: how well it agrees with exact removal, and whether its top heads are the ones that matter.

For each text every head is removed alone, exactly, and the changes are ranked beside the estimated ones (Spearman).
Then the top heads by attribution are removed together, beside random sets of as many, and the top heads alone are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp.features.attribution import CHECKED
from cahp.features.attribution.baseline import Baseline, bundled_folder
from cahp.features.attribution.measuring import TextQuestion, check_whole, draw_sets
from cahp.features.attribution.result import order_by_size, order_by_support, signed_nats
from cahp.files import plain_json
from cahp.models.tokenizing import tokenize_own
from cahp.outcomes import wilson
from cahp.run.bench import Bench
from cahp.run.texts import load_data
from cahp.store import key
from cahp.values import DataError, Estimate, HeadMask, Input, spread
from cahp.words import capital, number, percent

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

STAGE = "check of attribution"
#: Bump to invalidate cached results.
_REVISION = 2
#: The most tokens that are read of each text; of a language model half of these.
TOKENS = 64
#: Numbers of heads that are removed together.
REMOVED = (5, 10, 20)
#: Numbers of heads that are kept alone, beside half of all.
KEPT = (10, 20)
#: Random sets of each size: removed, and kept alone.
_REMOVED_SETS = 10
_KEPT_SETS = 5


#: Heads of most support that are compared with those by exact removal.
_COMPARED = 10


@dataclass(frozen=True)
class RemovedTogether:
    """The change of the answer's log-probability, in nats, without the top ``size`` heads and without random ones."""

    size: int
    top: float
    random: tuple[float, ...]

    @property
    def gap(self) -> float:
        """By how much more the top heads change it than the median random set; negative: they matter more."""
        return self.top - float(np.median(self.random))


@dataclass(frozen=True)
class KeptAlone:
    """Whether the answer stays with ``size`` heads alone: those of most support, or of the largest change.

    ``random`` is the share of random sets with which it stays.
    """

    size: int
    top: bool
    largest: bool
    random: float


@dataclass(frozen=True)
class TextCheck:
    """The check on one text of so many ``tokens``.

    ``correlation`` is Spearman's rank correlation of estimated with exact changes over all heads, and ``overlap`` the
    share of the ten heads of most support, exactly, that are among the ten by attribution.
    """

    tokens: int
    correlation: float
    overlap: float
    removed: tuple[RemovedTogether, ...]
    kept: tuple[KeptAlone, ...]


@dataclass(frozen=True)
class AttributionCheck:
    """The check of attribution of one ``model`` (digest ``sha256``) on evaluation ``texts`` of ``data``.

    ``made`` has the machine, day and command of a bundled check.
    """

    model: str
    sha256: str
    unit: str
    units: int
    answer: str
    data: str
    baseline: str
    texts: tuple[TextCheck, ...]
    made: Mapping[str, str] | None = None

    @property
    def correlation(self) -> Estimate:
        """The median rank correlation over texts."""
        return median([text.correlation for text in self.texts], "number")

    def removed(self, place: int) -> tuple[Estimate, Estimate, Estimate]:
        """The median change without the top heads, without random ones, and the difference, at a place in the sizes."""
        rows = [text.removed[place] for text in self.texts]
        top = median([row.top for row in rows], "nats")
        random = median([float(np.median(row.random)) for row in rows], "nats")
        return top, random, median([row.gap for row in rows], "nats")

    @property
    def overlap(self) -> float:
        """The mean overlap of the ten heads of most support, estimated and exact."""
        return float(np.mean([text.overlap for text in self.texts]))

    def kept(self, place: int) -> tuple[Estimate, Estimate, float]:
        """The shares of texts whose answer stays, at a place in the sizes.

        With the heads of most support alone, with those of the largest change, and with random ones.
        """
        rows = [text.kept[place] for text in self.texts]
        random = float(np.mean([row.random for row in rows]))
        return _share([row.top for row in rows]), _share([row.largest for row in rows]), random

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``cahp attribute --check --json``, with the summary beside the texts."""
        document: dict[str, Any] = plain_json(self)
        return {**document, "correlation": plain_json(self.correlation)}


def _share(values: Sequence[bool]) -> Estimate:
    stays = sum(values)
    return Estimate(stays / len(values), wilson(stays, len(values)), len(values), "share")


def median(values: Sequence[float], unit: Literal["nats", "number"]) -> Estimate:
    """Return the median of values with its 95 % interval by order statistics (None below six values)."""
    from scipy.stats import binom

    ordered = sorted(values)
    count = len(ordered)
    interval = None
    # With five values even the whole range holds the median in less than 95 % of samples.
    if count > 5:
        low = int(binom.ppf(0.025, count, 0.5))
        interval = (ordered[low - 1], ordered[count - low])
    return Estimate(float(np.median(ordered)), interval, count, unit)


def check_attribution(bench: Bench, baseline: Baseline, *, texts: int = CHECKED) -> AttributionCheck:
    """Check attribution on the first tokens of ``texts`` evaluation texts; each is stored as soon as it is measured.

    Raises:
        DataError: If there are no texts.
    """
    model = bench.model
    check_whole(model)
    chosen = _choose_texts(bench, texts)
    checks = []
    for number_, text in enumerate(chosen):
        bench.resources.progress(STAGE, number_, len(chosen))
        checks.append(_find_check(bench, model, text, baseline))
    bench.resources.progress(STAGE, len(chosen), len(chosen))
    return AttributionCheck(
        model=bench.card.id,
        sha256=bench.card.identity,
        unit=bench.card.unit,
        units=bench.card.layers * bench.card.heads,
        answer=bench.card.words.answer,
        data=bench.dataset.id,
        baseline=str(baseline),
        texts=tuple(checks),
    )


def _choose_texts(bench: Bench, count: int) -> list[Input]:
    """Return texts of the evaluation split, evenly spread; of a language model documents, not windows."""
    split = load_data(bench.settings, bench.card).splits[bench.settings.eval_split]
    inputs = list(split.plain_inputs)
    if not inputs:
        raise DataError(f"{bench.dataset.id} has no evaluation texts; name other data with --data")
    return [inputs[row] for row in spread(len(inputs), count)]


def _find_check(bench: Bench, model: HeadModel, text: Input, baseline: Baseline) -> TextCheck:
    """Return the stored check of one text, or measure and store it."""
    entry, _ = tokenize_own(model, text, max_length=TOKENS)
    if bench.card.task.predicts_often:
        # The answer shall continue a sentence, not follow its end.
        half = max(1, len(entry["input_ids"]) // 2)
        entry = {column: values[:half] for column, values in entry.items()}
    sizes = [REMOVED, KEPT, _REMOVED_SETS, _KEPT_SETS]
    name = key(STAGE, _REVISION, bench.card.sha256, baseline.sha256, bench.settings.seed, entry["input_ids"], *sizes)
    stored = bench.resources.load_cached(
        STAGE, name, lambda of: msgspec.convert(dict(of.meta), TextCheck, strict=False)
    )
    if stored is not None:
        return stored
    with bench.resources.timed(STAGE):
        measured = check_text(TextQuestion(model, entry, baseline), seed=bench.settings.seed)
    bench.resources.keep(name, {}, plain_json(measured))
    return measured


def check_text(question: TextQuestion, *, seed: int) -> TextCheck:
    """Check attribution of the predicted answer on one text, by removing every head alone."""
    changes, logs = question.estimate(None)
    answer = int(logs.argmax())
    shape = changes.shape
    units = changes.size
    order = np.array(order_by_support(changes))
    largest = np.array(order_by_size(changes))
    alone = [HeadMask.without([head], *shape).keep for head in range(units)]
    removed = [size for size in REMOVED if size < units]
    kept = sorted({size for size in (*KEPT, units // 2) if size < units})
    masks = [*alone, *_list_masks(removed, order, shape, seed=seed, sets=_REMOVED_SETS)]
    masks += [~mask for mask in _list_masks(kept, order, shape, seed=seed, sets=_KEPT_SETS)]
    masks += [HeadMask.of(largest[:size], *shape).keep for size in kept]
    measured, predictions = question.remove(masks, answer)
    exact = measured - logs[answer]
    together = exact[units : units + len(removed) * (1 + _REMOVED_SETS)].reshape(len(removed), 1 + _REMOVED_SETS)
    stays = predictions[units + together.size :] == answer
    by_size = stays[len(stays) - len(kept) :]
    by_support = stays[: len(stays) - len(kept)].reshape(len(kept), 1 + _KEPT_SETS)
    return TextCheck(
        tokens=len(question.entry["input_ids"]),
        correlation=correlate(changes.ravel(), exact[:units]),
        overlap=_overlap(changes.ravel(), exact[:units]),
        removed=tuple(
            RemovedTogether(size, _rounded(row[0]), tuple(map(_rounded, row[1:])))
            for size, row in zip(removed, together, strict=True)
        ),
        kept=tuple(
            KeptAlone(size, bool(row[0]), bool(other), float(row[1:].mean()))
            for size, row, other in zip(kept, by_support, by_size, strict=True)
        ),
    )


def _list_masks(
    sizes: Sequence[int], order: NDArray[np.int64], shape: tuple[int, int], *, seed: int, sets: int
) -> Iterator[NDArray[np.bool_]]:
    """Yield, for each size, the mask without the first heads of ``order``, and those without random heads."""
    for size in sizes:
        yield HeadMask.without(order[:size], *shape).keep
        for heads in draw_sets(order.size, size, seed=seed, sets=sets):
            yield HeadMask.without(heads, *shape).keep


def _overlap(estimated: NDArray[np.float64], exact: NDArray[np.float64], top: int = _COMPARED) -> float:
    """Return the share of the ``top`` lowest exact changes that are among the ``top`` lowest estimated ones."""
    first = set(np.argsort(estimated, kind="stable")[:top].tolist())
    return len(first & set(np.argsort(exact, kind="stable")[:top].tolist())) / min(top, len(exact))


def correlate(estimated: NDArray[np.float64], exact: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation; 0 where all values of one are equal."""
    from scipy.stats import spearmanr

    if np.ptp(estimated) == 0 or np.ptp(exact) == 0:
        return 0.0
    return _rounded(spearmanr(estimated, exact).statistic)


def _rounded(value: float) -> float:
    return round(float(value), 4)


@cache
def read_bundled_checks() -> dict[str, AttributionCheck]:
    """Read the bundled checks by the digest of their model."""
    files = sorted(bundled_folder().glob("*.json"))
    checks = [msgspec.json.decode(file.read_bytes(), type=AttributionCheck) for file in files]
    return {one.sha256: one for one in checks}


# Words -------------------------------------------------------------------------------------------------------

#: The columns of the table of a check: heads of most support, heads of the largest change either way, and random ones.
COLUMNS = ("", "most support", "largest change", "random")


def check_rows(check: AttributionCheck) -> list[tuple[str, ...]]:
    """Return the table of a check by ``COLUMNS``: changes without heads in nats, and the answers kept in per cent."""
    rows: list[tuple[str, ...]] = []
    first = check.texts[0]
    for place, size in enumerate(one.size for one in first.removed):
        top, random, _ = map(_with_interval, check.removed(place))
        rows.append((f"change without {size} {check.unit}s, nats", top, "", random))
    for place, size in enumerate(one.size for one in first.kept):
        top_share, largest, chance = check.kept(place)
        shares = [f"{percent(share.value, 0)} ({share.span})" for share in (top_share, largest)]
        rows.append((f"answer kept by {size} {check.unit}s alone", *shares, percent(chance, 0)))
    return rows


def _with_interval(estimate: Estimate) -> str:
    """Return a change in nats with its interval, where it has one."""
    text = signed_nats(estimate.value)
    if estimate.ci95 is not None:
        text += f" ({signed_nats(estimate.low)} to {signed_nats(estimate.high)})"
    return text


def describe_check(check: AttributionCheck) -> str:
    """Describe the rank correlation with exact removal in a sentence."""
    correlation = check.correlation
    span = ""
    if correlation.ci95 is not None:
        span = f" ({number(correlation.low, 2)} to {number(correlation.high, 2)})"
    found = ""
    if check.units > _COMPARED:
        found = f"; of the ten that support the answer most, it finds {percent(check.overlap, 0)}"
    return (
        f"rank correlation of attribution with exact removal of each of {check.units} {check.unit}s of {check.model}: "
        f"{number(correlation.value, 2)}{span}, median of {correlation.n} texts of {check.data}{found}"
    )


def list_findings(check: AttributionCheck) -> Iterator[str]:
    """Return the table of a check as sentences, for narrow screens."""
    for label, support, largest, random in check_rows(check):
        also = ""
        if largest:
            also = f"; of the largest change: {largest}"
        yield f"{capital(label)} of most support: {support}{also}; random: {random}"


def check_lines(check: AttributionCheck) -> Iterator[str]:
    """Return a check as lines of text."""
    yield describe_check(check)
    yield ""
    table = [COLUMNS, *check_rows(check)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for label, *cells in table:
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        yield f"  {label:<{widths[0]}}  {'  '.join(padded)}"
    intervals = ""
    if check.correlation.ci95 is not None:
        intervals = " with 95 % intervals"
    yield f"  of the predicted {check.answer}; medians over texts{intervals}; a removed {check.unit} gives its"
    yield f"  {check.baseline}"
