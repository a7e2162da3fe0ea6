"""The summary of a comparison, computed from its document and its predictions, without a model.

``compare.json`` holds it under ``summary``, with these fields in this order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cahp.comparison import statistics
from cahp.comparison.arrays import Answers, tabulate
from cahp.comparison.document import (
    TESTED,
    Area,
    AreaVerdict,
    ComparisonDocument,
    Mean,
    Primary,
    Verdict,
    convert,
    tabulate_cells,
)
from cahp.comparison.plan import FULL, REFERENCE
from cahp.files import plain_json
from cahp.values import Bools, Floats
from cahp.values.statistics import expected_jaccard, jaccard, overlaps

#: Heads as (layer, head).
Heads = tuple[tuple[int, int], ...]
#: The fields with areas and verdicts.
_TESTS = ("areas", "verdicts", "area_verdicts")
#: Masks with their seeds, by method and budget, in the document's order.
Masks = Mapping[tuple[str, int], Sequence[tuple[int, Bools]]]


@dataclass(frozen=True)
class LayerMeans:
    """Heads that a method keeps in each layer at a budget: ``mean (L,)`` over its masks."""

    method: str
    budget: int
    mean: tuple[float, ...]


@dataclass(frozen=True)
class MethodOverlap:
    """Mean Jaccard index of two methods' masks with the same seed; ``chance`` is that of random masks."""

    methods: tuple[str, str]
    budget: int
    chance: float
    jaccard: float


@dataclass(frozen=True)
class SeedOverlap:
    """Mean Jaccard index of ``pairs`` of one method's masks; ``chance`` is that of random masks."""

    method: str
    budget: int
    chance: float
    jaccard: float
    pairs: int


@dataclass(frozen=True)
class Overlap:
    """Overlap of every two ``methods``, and of each method's own masks over ``seeds``."""

    methods: tuple[MethodOverlap, ...]
    seeds: tuple[SeedOverlap, ...]


@dataclass(frozen=True)
class Consensus:
    """Heads that all ``methods`` keep at a budget (``everybody``), and that none keeps (``nobody``).

    Random selection does not count. ``share (L, H)`` is the share of a method's masks that keep the head, mean over
    methods.
    """

    budget: int
    methods: int
    everybody: Heads
    nobody: Heads
    share: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MethodCost:
    """Cost of a method: forward passes, labels and seconds to select heads, and the seconds of each recovery.

    Passes and labels are None if the method does not state them, seconds of a recovery if it was not measured.
    """

    method: str
    forwards: float | None
    labels: int | None
    score_s: float
    recovery_s: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The summary of a comparison. Its verdicts compare each method with the method ``against``; ``rule`` says how.

    All verdicts but those of ``primary`` (None: its masks failed) are descriptive. Areas and verdicts of all outcomes
    stand together. In the file those of the accuracy stand by themselves, and the others under ``by_outcome``.
    """

    primary: Primary | None
    against: str
    rule: str
    means: tuple[Mean, ...]
    areas: tuple[Area, ...]
    verdicts: tuple[Verdict, ...]
    area_verdicts: tuple[AreaVerdict, ...]
    layers: tuple[LayerMeans, ...]
    overlap: Overlap
    consensus: tuple[Consensus, ...]
    cost: tuple[MethodCost, ...]

    def to_json(self) -> dict[str, Any]:
        """The ``summary`` of a comparison file."""
        content = dict(plain_json(self)) | {"means": [plain_json(mean.to_json()) for mean in self.means]}
        rows = [(name, row) for name in _TESTS for row in content[name]]
        content |= {name: [] for name in _TESTS} | {"by_outcome": {}}
        for name, row in rows:
            group = content
            if row["outcome"] != "accuracy":
                group = content["by_outcome"].setdefault(row["outcome"], {table: [] for table in _TESTS})
            group[name].append(row)
        return content

    @classmethod
    def from_json(cls, data: object) -> Summary:
        """Read the summary of a comparison file.

        Raises:
            ValueError: If parts are missing or of another type.
        """
        try:
            content: dict[str, Any] = dict(data)  # type: ignore[call-overload]
            groups = [*content["by_outcome"].values(), content]
            content |= {name: [row for group in groups for row in group[name]] for name in _TESTS}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        return convert(content, cls, {"means": Mean.from_json})


def summarise(document: ComparisonDocument, answers: Mapping[str, Answers]) -> Summary:
    """Summarise a comparison; the others are compared with the reference method, or with the first one without it.

    ``answers`` are the arrays of ``compare.npz`` by part (``eval`` or ``report``).
    """
    names = list(document.methods)
    against = names[0]
    if REFERENCE in names:
        against = REFERENCE
    table = tabulate_cells(document)
    table = table[(table["method"] != FULL) & table["error"].isna()]
    masks = {}
    for key, cells in document.masks.items():
        masks[key] = [(cell.seed, document.mask(cell)) for cell in cells]
    budgets = sorted({budget for _, budget in masks})
    full = document.full[0].recoveries["none"].row
    by_part = {part: tabulate(arrays, full) for part, arrays in answers.items()}
    means: list[Mean] = []
    areas: list[Area] = []
    tests: list[Verdict] = []
    for part, tables in by_part.items():
        for recovery in document.recoveries:
            measured = statistics.analyse(document, table, tables, part=part, recovery=recovery, against=against)
            means += measured[0]
            areas += measured[1]
            tests += measured[2]
    # The primary test is on the test split if that was measured; there is none if its masks failed.
    primary: Primary | None = None
    part = [part for part in document.parts if part in by_part][-1]
    recovery = statistics.choose_recovery(document.recoveries)
    small = [mean.budget for mean in means if mean.recovery == recovery]
    if small:
        total = document.model.layers * document.model.heads
        endpoint = statistics.choose_endpoint(by_part[part], recovery, small, total)
        primary = statistics.find_primary(document, endpoint, part, tests)
    # A sentence describes a test with the corrections of its family.
    tests = list(statistics.add_words(document, tests, budgets))
    if primary is not None:
        primary = replace(primary, tests=tuple(statistics.add_words(document, primary.tests, budgets)))
    areas.sort(key=lambda area: TESTED.index(area.outcome))
    tests.sort(key=lambda test: TESTED.index(test.outcome))
    rule = (
        f"Each method is compared with {against} at every budget and after every recovery, by a t test of paired "
        f"differences with variance components of {document.noun('eval')} and seeds. A test is a statement about a "
        "method, not about its measured masks, so it has one degree of freedom less than there are seeds. p is "
        "corrected by Holm over all tests of one outcome, split and recovery, and the intervals are simultaneous "
        f"(Bonferroni) over the same tests; above {statistics.LEVEL} a difference is not significant. The areas "
        "over the budgets of up to 20 % of the heads are tested in the same way. The primary test is corrected over "
        "its methods alone, and all others are descriptive. Methods are equivalent where two one-sided tests at 5 % "
        "(not corrected) show a difference below 1 point, or in nats below a tenth of the KL divergence of "
        f"{against}. One seed allows no verdict."
    )
    # The share of a method's masks that keep each head.
    shares = {key: np.mean([keep for _, keep in group], axis=0) for key, group in masks.items()}
    consensus = []
    for budget in budgets:
        here = [own for (name, at), own in shares.items() if at == budget and not document.methods[name].random]
        if here:
            consensus.append(_find_consensus(here, budget))
    return Summary(
        primary=primary,
        against=against,
        rule=rule,
        means=tuple(means),
        areas=tuple(areas),
        verdicts=tuple(test for test in tests if not isinstance(test, AreaVerdict)),
        area_verdicts=tuple(test for test in tests if isinstance(test, AreaVerdict)),
        layers=tuple(LayerMeans(*key, tuple(own.sum(axis=1).tolist())) for key, own in shares.items()),
        overlap=_measure_overlaps(masks, names),
        consensus=tuple(consensus),
        cost=tuple(_measure_costs(document, table)),
    )


def _measure_costs(document: ComparisonDocument, table: pd.DataFrame) -> Iterator[MethodCost]:
    """The cost of each method: forward passes and labels as if nothing were cached, and measured seconds.

    All are of the costliest budget, the mean over seeds. Evidence that another method of the same comparison had
    gathered before takes no seconds again: forward passes compare methods, seconds describe this comparison.
    """
    numbers = ["score_s", "recovery_s", "forwards", "labels"]
    first = table[table["part"].isna() | (table["part"] == "eval")]
    first = first.astype(dict.fromkeys(numbers, np.float64))
    for method, own in first.groupby("method", sort=False):
        prices = own[["forwards", "labels"]].max()
        seconds = own.groupby("recovery")["recovery_s"].mean()
        recovering = {}
        for recovery in document.recoveries:
            if recovery != "none":
                recovering[recovery] = _known(seconds.get(recovery))
        labels = None if np.isnan(prices["labels"]) else int(prices["labels"])
        score = own["score_s"].fillna(0.0).groupby(own["seed"]).max().mean()
        yield MethodCost(method, _known(prices["forwards"]), labels, float(score), recovering)


def _known(number: float | None) -> float | None:
    if number is None or np.isnan(number):
        return None
    return float(number)


def _measure_overlaps(masks: Masks, names: Sequence[str]) -> Overlap:
    """Overlap of every two methods at the same budget with the same seed, and of each method's own masks."""
    methods = []
    own = []
    for (method, budget), group in masks.items():
        random = expected_jaccard(budget, budget, group[0][1].size)
        # Each pair once.
        for other in names:
            if other <= method:
                continue
            indices = [
                jaccard(keep, other_keep)
                for seed, keep in group
                for other_seed, other_keep in masks.get((other, budget), ())
                if other_seed == seed
            ]
            if indices:
                methods.append(MethodOverlap((method, other), budget, random, float(np.mean(indices))))
        of_seeds = overlaps([keep for _, keep in group])
        if len(of_seeds):
            own.append(SeedOverlap(method, budget, random, float(np.mean(of_seeds)), len(of_seeds)))
    return Overlap(tuple(methods), tuple(own))


def _find_consensus(shares: Sequence[Floats], budget: int) -> Consensus:
    """The heads that all methods keep at a budget, and that none keeps; ``shares (L, H)`` are those of each method."""
    # Shares of whole numbers of masks are exactly 1 or 0 if all masks agree.
    kept_by_all = _list_heads(np.all(np.equal(shares, 1.0), axis=0))
    kept_by_none = _list_heads(np.all(np.equal(shares, 0.0), axis=0))
    mean = tuple(tuple(row) for row in np.mean(shares, axis=0).tolist())
    return Consensus(budget, len(shares), kept_by_all, kept_by_none, mean)


def _list_heads(chosen: Bools) -> Heads:
    return tuple((int(layer), int(head)) for layer, head in np.argwhere(chosen))
