"""The record of a check of attribution, and its words: how well it agrees with exact removal.

For each text every head was removed alone, exactly, and the changes were ranked beside the estimated ones (Spearman).
Then the top heads by attribution were removed together, beside random sets of as many, and the top heads alone were
kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from cahp.features.attribution.result import bundled_folder, signed_nats
from cahp.files import plain_json
from cahp.outcomes import wilson
from cahp.values import Estimate
from cahp.words import capital, number, percent

#: Heads of most support that are compared with those by exact removal.
COMPARED = 10
#: The columns of the table of a check: heads of most support, heads of the largest change either way, and random ones.
COLUMNS = ("", "most support", "largest change", "random")


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


def read_bundled_checks() -> dict[str, AttributionCheck]:
    """Read the bundled checks by the digest of their model."""
    files = sorted(bundled_folder().glob("*.json"))
    checks = [msgspec.json.decode(file.read_bytes(), type=AttributionCheck) for file in files]
    return {one.sha256: one for one in checks}


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
    if check.units > COMPARED:
        found = f"; of the ten that support the answer most, it finds {percent(check.overlap, 0)}"
    return (
        f"rank correlation of attribution with exact removal of each of {check.units} {check.unit}s of {check.model}: "
        f"{number(correlation.value, 2)}{span}, median of {correlation.n} texts of {check.data}{found}"
    )


def list_findings(check: AttributionCheck) -> Iterator[str]:
    """Yield what a check found, in sentences: the rank correlation, then each row of its table."""
    yield capital(describe_check(check))
    for label, support, largest, random in check_rows(check):
        also = ""
        if largest:
            also = f"; of the largest change: {largest}"
        yield f"{capital(label)} of most support: {support}{also}; random: {random}"


def make_document(check: AttributionCheck) -> dict[str, Any]:
    """Return the file of a check: its fields, its findings for the explorer, and its table for the guide."""
    return {
        **plain_json(check),
        "correlation": plain_json(check.correlation),
        "findings": list(list_findings(check)),
        "table": [COLUMNS, *check_rows(check)],
    }
