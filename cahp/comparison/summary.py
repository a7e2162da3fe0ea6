"""The summary of a comparison, computed from its document and its answers, without a model.

``compare.json`` holds it under ``summary``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from cahp.comparison.arrays import Answers, UnitSums, tabulate
from cahp.comparison.document import ComparisonDocument, tabulate_cells
from cahp.comparison.plan import FULL, REFERENCE
from cahp.comparison.sentences import describe_place
from cahp.comparison.statistics import (
    HEADLINE,
    LEVEL,
    MARGIN_POINTS,
    MARGIN_SHARE,
    TESTED,
    Verdict,
    Verdicts,
    choose_endpoint,
    choose_recovery,
    compare_methods,
    correct_family,
    estimate_crossed,
    list_tested,
    trapezoid_weights,
)
from cahp.files import plain_json
from cahp.outcomes import OUTCOMES, Outcomes, finite, main_outcome, to_metrics, to_perplexity
from cahp.recoveries import NONE
from cahp.values import Estimate, Fields, Interval, JsonObject
from cahp.values.statistics import expected_jaccard, overlaps


@dataclass(frozen=True)
class Mean:
    """Outcomes of a method at a budget: means over seeds and masks.

    Those that are means over texts have an interval. ``lowest`` and ``highest`` are accuracies of single masks, ``sd``
    is that over seeds (None for one seed); without labels all three are None. ``rejected`` of the ``masks`` kept their
    pruned weights, because the recovery did not help (None: not applicable).
    """

    split: str
    recovery: str
    method: str
    budget: int
    outcomes: Outcomes
    lowest: float | None
    highest: float | None
    sd: float | None
    seeds: int
    masks: int
    rejected: int | None = None


@dataclass(frozen=True)
class Area:
    """Mean of an outcome over ``budgets``: the area under a method's line, divided by the line's width."""

    split: str
    recovery: str
    method: str
    area: float
    ci95: Interval
    budgets: tuple[int, ...]
    outcome: str

    @property
    def estimate(self) -> Estimate:
        """The area as an estimate; its ``n`` is the number of budgets."""
        return Estimate(self.area, self.ci95, len(self.budgets), OUTCOMES[self.outcome].unit)


@dataclass(frozen=True)
class Primary:
    """The primary test of a comparison, which a fixed rule names before anything is measured.

    It has one ``outcome``, ``split`` and ``recovery``, and ``budgets`` with their area; one budget stands for itself.
    ``tests`` compare each method with the reference, and are corrected for each other alone. ``words`` names it.
    """

    split: str
    outcome: str
    recovery: str
    budgets: tuple[int, ...]
    words: str
    tests: Verdicts


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


@dataclass(frozen=True)
class OutcomeTests:
    """Areas and tests in one outcome: at one budget (``verdicts``), and of areas (``area_verdicts``)."""

    areas: tuple[Area, ...]
    verdicts: Verdicts
    area_verdicts: Verdicts


@dataclass(frozen=True)
class Summary:
    """The summary of a comparison. Its tests compare each method with the method ``against``; ``rule`` says how.

    All tests but those of ``primary`` (None: its masks failed) are descriptive. ``overlap`` has the mean Jaccard index
    of each method's own masks over ``seeds``. Areas and tests of other outcomes than the accuracy stand apart, in
    ``by_outcome``.
    """

    primary: Primary | None
    against: str
    rule: str
    means: tuple[Mean, ...]
    areas: tuple[Area, ...]
    overlap: Mapping[str, tuple[Fields, ...]]
    cost: tuple[MethodCost, ...]
    verdicts: Verdicts
    area_verdicts: Verdicts
    by_outcome: Mapping[str, OutcomeTests]

    @property
    def all_areas(self) -> list[Area]:
        """The areas in every outcome, the most telling one first."""
        return [area for group in self.by_outcome.values() for area in group.areas] + list(self.areas)

    @property
    def tests(self) -> list[Verdict]:
        """The tests in every outcome, the most telling one first."""
        tests = [test for group in self.by_outcome.values() for test in (*group.verdicts, *group.area_verdicts)]
        return [*tests, *self.verdicts, *self.area_verdicts]

    def to_json(self) -> JsonObject:
        """The ``summary`` of a comparison file."""
        content: JsonObject = plain_json(self)
        for row, mean in zip(content["means"], self.means, strict=True):
            row |= plain_json(to_metrics(mean.outcomes))
        return content

    @classmethod
    def from_json(cls, data: Any, document: ComparisonDocument) -> Summary:
        """Read the summary of a comparison file.

        Raises:
            ValueError, LookupError: If parts are missing, of another type, or contradict the ``document``.
        """
        summary = msgspec.convert(data, cls)
        rows: list[Any] = [*summary.means, *summary.all_areas, *summary.tests]
        primary = summary.primary
        if primary is not None:
            rows += primary.tests
            # Its words may be anything, and a headline shows them.
            place = (primary.outcome, primary.recovery, primary.budgets, document.total, document.model.unit)
            summary = replace(summary, primary=replace(primary, words=describe_place(*place)))
        methods = {row.method for row in (*rows, *summary.cost)} | {summary.against}
        if not summary.means or not methods <= document.methods.keys():
            raise ValueError("no means, or methods that did not take part")
        if not {row.recovery for row in rows} <= {*document.recoveries}:
            raise ValueError("recoveries that were not compared")
        return summary


def summarise(document: ComparisonDocument, answers: Mapping[str, Answers]) -> Summary:
    """Summarise a comparison; the others are compared with the reference method, or with the first one without it.

    ``answers`` are the arrays of ``compare.npz`` by part (``eval`` or ``report``). Cells with an error are left out,
    and the random masks that share a seed are averaged first.
    """
    against = next(iter(document.methods))
    if REFERENCE in document.methods:
        against = REFERENCE
    table = tabulate_cells(document)
    table = table[(table["method"] != FULL) & table["error"].isna()]
    full = document.full[0].recoveries[NONE.name].row
    by_part = {part: tabulate(arrays, full) for part, arrays in answers.items()}
    means = []
    areas = []
    tests = []
    for part, sums in by_part.items():
        for recovery in document.recoveries:
            masks = table[(table["part"] == part) & (table["recovery"] == recovery)]
            if len(masks):
                measured = _analyse(masks, sums, document.total, against)
                means += measured[0]
                areas += measured[1]
                tests += measured[2]
    groups = {}
    for outcome in TESTED:
        own = [test for test in tests if test.outcome == outcome]
        group = OutcomeTests(
            tuple(area for area in areas if area.outcome == outcome),
            tuple(test for test in own if test.budget is not None),
            tuple(test for test in own if test.budget is None),
        )
        if group.areas or own:
            groups[outcome] = group
    of_accuracy = groups.pop("accuracy", OutcomeTests((), (), ()))
    rule = (
        f"Each method is compared with {against} at every budget and after every recovery, by a t test of paired "
        f"differences with variance components of {document.noun('eval')} and seeds. A test is a statement about a "
        "method, not about its measured masks, so it has one degree of freedom less than there are seeds. p is "
        "corrected by Holm over all tests of one outcome, split and recovery, and the intervals are simultaneous "
        f"(Bonferroni) over the same tests. The interval decides: a difference is significant where it excludes 0, and "
        f"its p is then at most {LEVEL}. The areas over the budgets of up to 20 % of the heads are tested in the same "
        "way. The primary test is corrected over its methods alone, and all others are descriptive. Methods are "
        "equivalent where two one-sided tests at 5 % (not corrected) show a difference below 1 point, or in nats below "
        f"a tenth of the KL divergence of {against}. One seed allows no verdict."
    )
    # The primary test is on the test split if that was measured.
    part = [part for part in document.parts if part in by_part][-1]
    return Summary(
        primary=_find_primary(document, part, by_part[part], means, tests),
        against=against,
        rule=rule,
        means=tuple(means),
        **vars(of_accuracy),
        by_outcome=groups,
        overlap={"seeds": tuple(measure_overlaps(document))},
        cost=tuple(_measure_costs(document, table)),
    )


def _analyse(
    masks: pd.DataFrame,
    sums: Mapping[str, UnitSums],
    total: int,
    against: str,
) -> tuple[list[Mean], list[Area], list[Verdict]]:
    """Compute the means, areas and tests of the ``masks`` of one part after one recovery.

    ``masks`` are rows of ``tabulate_cells``, ``sums`` the tables of ``tabulate``. In each outcome of ``TESTED`` each
    method is compared with ``against`` at every budget where both were measured, and by its area: the mean over the
    budgets of up to 20 % of the ``total`` heads (all budgets, if fewer than two are as small). Only methods that were
    measured at each of them have an area, of the seeds that they have in common.
    """
    place = {"split": masks["split"].iloc[0], "recovery": masks["recovery"].iloc[0]}
    groups = masks.groupby(["method", "attained"], sort=False)
    budgets = sorted(masks["attained"].unique().tolist())
    covered = tuple(budget for budget in budgets if budget <= HEADLINE * total)
    if len(covered) < 2:
        covered = tuple(budgets)
    series = {}
    for name, (values, _) in sums.items():
        frame = pd.DataFrame(values[masks["row"].tolist()].astype(np.float64), index=masks["seed"])
        frames = series[name] = {
            key: frame.iloc[rows].groupby(level=0, sort=False).mean() for key, rows in groups.indices.items()
        }
        for method in masks["method"].unique():
            parts = [frames[method, budget] for budget in covered if (method, budget) in frames]
            if len(parts) == len(covered) > 1:
                weights = trapezoid_weights(covered)
                area = sum(weight * part for weight, part in zip(weights, parts, strict=True)).dropna()
                if len(area):
                    frames[method, None] = area
    means = []
    for key, group in groups:
        own = {name: frames[key] for name, frames in series.items()}
        means.append(_summarise_masks(group, own, sums, method=key[0], budget=key[1], **place))
    areas = []
    tests = []
    for outcome in list_tested(sums):
        unit = OUTCOMES[outcome].unit
        sizes = sums[outcome].sizes
        for (method, at), frame in series[outcome].items():
            if at is None:
                mean = estimate_crossed(frame, unit, sizes)
                ends = (mean.low, mean.high)
                areas.append(Area(**place, method=method, area=mean.value, ci95=ends, budgets=covered, outcome=outcome))
        margins = dict.fromkeys((*budgets, None), MARGIN_POINTS)
        if unit != "share":
            kl = series.get("kl", {})
            margins = {at: MARGIN_SHARE * float(kl[name, at].to_numpy().mean()) for name, at in kl if name == against}
        for at_budgets in (True, False):
            family = {key: frame for key, frame in series[outcome].items() if (key[1] is not None) == at_budgets}
            tests += compare_methods(family, against, outcome, sizes, margins=margins, covered=covered, **place)
    return means, areas, tests


def _summarise_masks(
    masks: pd.DataFrame, frames: Mapping[str, pd.DataFrame], sums: Mapping[str, UnitSums], **place: Any
) -> Mean:
    """The mean outcomes of the masks of a method at a budget; ``frames`` have values of seeds (rows) and units."""
    columns = masks.rename(columns={"loss": "nll", "delta_pp": "accuracy_change"})[list(OUTCOMES)]
    of_units = {name: estimate_crossed(frame, OUTCOMES[name].unit, sums[name].sizes) for name, frame in frames.items()}
    row, main = main_outcome(of_units)
    # Those that are no means over units are means over masks, without an interval.
    found = {
        str(name): Estimate(float(value), None, main.n, OUTCOMES[str(name)].unit)
        for name, value in columns.astype(np.float64).mean().dropna().items()
    }
    found |= of_units
    if "perplexity" in found:
        found["perplexity"] = to_perplexity(found["nll"])
    found = finite(found)
    by_seed = frames[row.name].mean(axis=1)
    accuracies = columns["accuracy"].dropna()
    sd = None
    if len(by_seed) > 1 and len(accuracies):
        sd = float(by_seed.std())
    decided = masks["accepted"].dropna()
    rejected = None
    if len(decided):
        rejected = len(decided) - int(decided.sum())
    return Mean(
        **place,
        outcomes={name: found[name] for name in OUTCOMES if name in found},
        lowest=min(accuracies, default=None),
        highest=max(accuracies, default=None),
        sd=sd,
        seeds=len(by_seed),
        masks=len(masks),
        rejected=rejected,
    )


def _find_primary(
    document: ComparisonDocument, part: str, outcomes: Fields, means: list[Mean], tests: list[Verdict]
) -> Primary | None:
    """Find the primary test on a part (None: its masks failed)."""
    split = document.data.of(part).split
    recovery = choose_recovery(document.recoveries)
    budgets = [mean.budget for mean in means if (mean.split, mean.recovery) == (split, recovery)]
    if not budgets:
        return None
    outcome, covered = choose_endpoint(outcomes, budgets, document.total)
    place = (split, outcome, recovery, covered)
    own = [test for test in tests if (test.split, test.outcome, test.recovery, test.budgets) == place]
    words = describe_place(outcome, recovery, covered, document.total, document.model.unit)
    return Primary(*place, words, tuple(correct_family(own)))


def _measure_costs(document: ComparisonDocument, table: pd.DataFrame) -> Iterator[MethodCost]:
    """The cost of each method: forward passes and labels as if nothing were cached, and measured seconds.

    All are of the costliest budget, the mean over seeds. Evidence that another method of the same comparison had
    gathered before takes no seconds again: forward passes compare methods, seconds describe this comparison.
    """
    numbers = ["score_s", "recovery_s", "forwards", "labels"]
    first = table[table["part"] == "eval"].astype(dict.fromkeys(numbers, np.float64))
    for method, own in first.groupby("method", sort=False):
        forwards = None
        labels = None
        if own["forwards"].notna().any():
            forwards = float(own["forwards"].max())
            labels = int(own["labels"].max())
        seconds = own.groupby("recovery")["recovery_s"].mean().dropna().to_dict()
        score = own["score_s"].groupby(own["seed"]).max().mean()
        recovering = {name: seconds.get(name) for name in document.recoveries if name != NONE.name}
        yield MethodCost(method, forwards, labels, float(score), recovering)


def measure_overlaps(document: ComparisonDocument) -> Iterator[JsonObject]:
    """Yield the mean Jaccard index of each method's own masks at a budget; ``chance`` is that of random masks."""
    masks: dict[tuple[str, int], list[Any]] = {}
    for cell in document.cells:
        budget = cell.budget["attained"]
        if cell.error is None and budget is not None:
            masks.setdefault((cell.method, budget), []).append(document.mask(cell))
    for (method, budget), group in masks.items():
        pairs = overlaps(group)
        if len(pairs):
            chance = expected_jaccard(budget, budget, document.total)
            jaccard = float(np.mean(pairs))
            yield {"method": method, "budget": budget, "chance": chance, "jaccard": jaccard, "pairs": len(pairs)}
