"""The summary of a comparison, computed from its document and its answers, without a model.

``compare.json`` holds it under ``summary``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cahp.comparison.arrays import Answers, UnitSums, tabulate
from cahp.comparison.document import ComparisonDocument, convert, tabulate_cells
from cahp.comparison.plan import FULL, REFERENCE
from cahp.comparison.sentences import describe_place
from cahp.comparison.statistics import (
    HEADLINE,
    LEVEL,
    MARGIN_POINTS,
    MARGIN_SHARE,
    TESTED,
    Verdict,
    choose_endpoint,
    choose_recovery,
    correct_family,
    crossed_mean,
    estimate_crossed,
    list_tested,
    trapezoid_weights,
)
from cahp.files import plain_json
from cahp.outcomes import OUTCOMES, Outcomes, finite, from_metrics, main_outcome, to_metrics, to_perplexity
from cahp.recoveries import NONE, RECOVERIES
from cahp.values import Estimate
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
    ci95: tuple[float, float]
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
    tests: tuple[Verdict, ...]


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
class Summary:
    """The summary of a comparison. Its tests compare each method with the method ``against``; ``rule`` says how.

    All tests but those of ``primary`` (None: its masks failed) are descriptive. ``overlap`` has the mean Jaccard index
    of each method's own masks over ``seeds``.
    """

    primary: Primary | None
    against: str
    rule: str
    means: tuple[Mean, ...]
    areas: tuple[Area, ...]
    tests: tuple[Verdict, ...]
    overlap: Mapping[str, tuple[Mapping[str, Any], ...]]
    cost: tuple[MethodCost, ...]

    def to_json(self) -> dict[str, Any]:
        """The ``summary`` of a comparison file: areas and tests of other outcomes than the accuracy stand apart."""
        content: dict[str, Any] = plain_json(self)
        for row, mean in zip(content["means"], self.means, strict=True):
            row |= plain_json(to_metrics(mean.outcomes))
        tests = content.pop("tests")
        tables = {"areas": content["areas"]}
        tables["verdicts"] = [row for row in tests if row["budget"] is not None]
        tables["area_verdicts"] = [row for row in tests if row["budget"] is None]
        groups: dict[str, dict[str, list[Any]]] = {}
        for outcome in ("accuracy", *(area.outcome for area in self.areas), *(test.outcome for test in self.tests)):
            groups[outcome] = {}
            for name, table in tables.items():
                groups[outcome][name] = [row for row in table if row["outcome"] == outcome]
        return {**content, **groups.pop("accuracy"), "by_outcome": groups}

    @classmethod
    def from_json(cls, data: Any, document: ComparisonDocument) -> Summary:
        """Read the summary of a comparison file.

        Raises:
            ValueError: If parts are missing, of another type, or contradict the ``document``.
        """
        try:
            groups = [*data["by_outcome"].values(), data]
            areas = [row for group in groups for row in group["areas"]]
            tests = [row for group in groups for name in ("verdicts", "area_verdicts") for row in group[name]]
            # A test at one budget may lack ``budgets``.
            tests = [{"budgets": [row["budget"]], **row} for row in tests]
            means = [{**row, "outcomes": dict(row["outcomes"])} for row in data["means"]]
            for row in means:
                # Old files hold some outcomes in fields of their own alone.
                for name, estimate in from_metrics(row).items():
                    row["outcomes"].setdefault(name, plain_json(estimate))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from None
        summary = convert({**data, "areas": areas, "tests": tests, "means": means}, cls)
        rows: list[Any] = [*summary.means, *summary.areas, *summary.tests]
        if summary.primary is not None:
            rows += summary.primary.tests
        methods = {row.method for row in (*rows, *summary.cost)} | {summary.against}
        budgets = {*(mean.budget for mean in summary.means), *(test.budget for test in summary.tests)} - {None}
        if not rows or not methods <= document.methods.keys() or not {row.recovery for row in rows} <= {*RECOVERIES}:
            raise ValueError("methods or recoveries that did not take part, or no means")
        if not budgets <= {*range(1, document.total + 1)}:
            raise ValueError("an impossible budget")
        return summary


#: Values of seeds (rows) and texts (columns), by method and budget (None: the area over several).
Series = Mapping[tuple[str, int | None], pd.DataFrame]


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
    means: list[Mean] = []
    areas: list[Area] = []
    tests: list[Verdict] = []
    for part, tables in by_part.items():
        for recovery in document.recoveries:
            masks = table[(table["part"] == part) & (table["recovery"] == recovery)]
            if len(masks):
                measured = _analyse(document, masks, tables, against=against)
                means += measured[0]
                areas += measured[1]
                tests += measured[2]
    areas.sort(key=lambda area: TESTED.index(area.outcome))
    tests.sort(key=lambda test: (TESTED.index(test.outcome), test.budget is None))
    # The primary test is on the test split if that was measured; there is none if its masks failed.
    part = [part for part in document.parts if part in by_part][-1]
    recovery = choose_recovery(document.recoveries)
    measured_budgets = [mean.budget for mean in means if mean.recovery == recovery]
    primary: Primary | None = None
    if measured_budgets:
        endpoint = choose_endpoint(by_part[part], recovery, measured_budgets, document.total)
        split = document.data.of(part).split
        place = (split, *endpoint)
        own = [test for test in tests if (test.split, test.outcome, test.recovery, test.budgets) == place]
        words = describe_place(*endpoint, document.total, document.model.unit)
        primary = Primary(split, *endpoint, words, tuple(correct_family(own)))
    rule = (
        f"Each method is compared with {against} at every budget and after every recovery, by a t test of paired "
        f"differences with variance components of {document.noun('eval')} and seeds. A test is a statement about a "
        "method, not about its measured masks, so it has one degree of freedom less than there are seeds. p is "
        "corrected by Holm over all tests of one outcome, split and recovery, and the intervals are simultaneous "
        f"(Bonferroni) over the same tests; above {LEVEL} a difference is not significant. The areas "
        "over the budgets of up to 20 % of the heads are tested in the same way. The primary test is corrected over "
        "its methods alone, and all others are descriptive. Methods are equivalent where two one-sided tests at 5 % "
        "(not corrected) show a difference below 1 point, or in nats below a tenth of the KL divergence of "
        f"{against}. One seed allows no verdict."
    )
    return Summary(
        primary=primary,
        against=against,
        rule=rule,
        means=tuple(means),
        areas=tuple(areas),
        tests=tuple(tests),
        overlap={"seeds": tuple(_measure_overlaps(document))},
        cost=tuple(_measure_costs(document, table)),
    )


def _analyse(
    document: ComparisonDocument, masks: pd.DataFrame, tables: Mapping[str, UnitSums], *, against: str
) -> tuple[list[Mean], list[Area], list[Verdict]]:
    """Compute means, areas and tests of one part of a comparison after one recovery.

    ``masks`` are its rows of ``tabulate_cells``, ``tables`` those of ``tabulate``. In each outcome of ``TESTED`` each
    method is compared with ``against`` at every budget where both were measured, and by its area: the mean over the
    budgets of up to 20 % of the heads (all budgets, if fewer than two are as small). Only methods that were measured
    at each of them, with the same seeds, have an area.
    """
    first = masks.iloc[0]
    place = {"split": first["split"], "recovery": first["recovery"]}
    groups = masks.groupby(["method", "attained"], sort=False)
    series: dict[str, dict[tuple[str, int | None], pd.DataFrame]] = {}
    for name, table in tables.items():
        values = pd.DataFrame(table.values[masks["row"].tolist()].astype(np.float64), index=masks["seed"])
        series[name] = {
            (method, int(budget)): values.iloc[rows].groupby(level=0, sort=False).mean()
            for (method, budget), rows in groups.indices.items()
        }
    means = []
    for (method, budget), group in groups:
        own = {
            name: estimate_crossed(frames[method, budget], OUTCOMES[name].unit, tables[name].sizes)
            for name, frames in series.items()
        }
        by_seed = series[main_outcome(own)[0].name][method, budget].mean(axis=1)
        means.append(_summarise_masks(group, own, by_seed, method=method, budget=int(budget), **place))
    budgets = sorted({mean.budget for mean in means})
    small = [budget for budget in budgets if budget <= HEADLINE * document.total]
    covered = small if len(small) > 1 else budgets
    areas: list[Area] = []
    tests: list[Verdict] = []
    # The KL divergence of the reference by budget, and that of its area.
    divergences: dict[int | None, float] = {}
    for outcome in list_tested(tables):
        sizes = tables[outcome].sizes
        frames = series[outcome]
        of_areas: dict[tuple[str, int | None], pd.DataFrame] = {}
        for method in masks["method"].unique():
            parts = [frames[method, budget] for budget in covered if (method, budget) in frames]
            if (
                len(covered) > 1
                and len(parts) == len(covered)
                and all(one.index.equals(parts[0].index) for one in parts)
            ):
                area = np.tensordot(trapezoid_weights(covered), np.array(parts), axes=1)
                of_areas[method, None] = pd.DataFrame(area, index=parts[0].index)
                mean = estimate_crossed(area, OUTCOMES[outcome].unit, sizes)
                ends = (mean.low, mean.high)
                areas.append(
                    Area(**place, method=method, area=mean.value, ci95=ends, budgets=tuple(covered), outcome=outcome)
                )
        if outcome == "kl":
            for (method, at), values in {**frames, **of_areas}.items():
                if method == against:
                    divergences[at] = float(values.to_numpy().mean())
        for family in (frames, of_areas):
            differences = _test(family, sizes, covered, divergences, against=against, outcome=outcome, **place)
            tests += correct_family(list(differences))
    return means, areas, tests


def _summarise_masks(masks: pd.DataFrame, of_texts: Mapping[str, Estimate], by_seed: Any, **place: Any) -> Mean:
    """The mean outcomes of masks: ``of_texts`` where they are means over texts, otherwise those of each mask."""
    columns = masks.rename(columns={"loss": "nll", "delta_pp": "accuracy_change"})[list(OUTCOMES)]
    outcomes: dict[str, Estimate] = {}
    for name, value in columns.astype(np.float64).mean().dropna().items():
        outcomes[str(name)] = Estimate(float(value), None, main_outcome(of_texts)[1].n, OUTCOMES[str(name)].unit)
    outcomes |= of_texts
    if "bits_per_byte" in of_texts:
        outcomes["perplexity"] = to_perplexity(of_texts["nll"])
    outcomes = finite(outcomes)
    accuracies = columns["accuracy"].dropna()
    sd: float | None = None
    if len(by_seed) > 1 and len(accuracies):
        sd = float(by_seed.std())
    decided = masks["accepted"].dropna()
    rejected: int | None = None
    if len(decided):
        rejected = len(decided) - int(decided.sum())
    return Mean(
        **place,
        outcomes={name: outcomes[name] for name in OUTCOMES if name in outcomes},
        lowest=min(accuracies, default=None),
        highest=max(accuracies, default=None),
        sd=sd,
        seeds=len(by_seed),
        masks=len(masks),
        rejected=rejected,
    )


def _test(
    series: Series,
    sizes: Any,
    covered: list[int],
    divergences: Mapping[int | None, float],
    *,
    against: str,
    outcome: str,
    **place: Any,
) -> Iterator[Verdict]:
    """Test methods, each against ``against`` on the seeds that both have; ``divergences`` are its own by budget."""
    row = OUTCOMES[outcome]
    unit = row.unit
    scale = 1
    if row.unit == "share":
        unit = "points"
        scale = 100
    if row.lower_is_better:
        scale = -scale
    for (method, budget), own in series.items():
        if method == against or (against, budget) not in series:
            continue
        theirs = series[against, budget]
        seeds = theirs.index.intersection(own.index)
        if seeds.empty:
            continue
        change = scale * (theirs.loc[seeds] - own.loc[seeds]).to_numpy()
        mean = crossed_mean(change, sizes)
        margin: float | None = MARGIN_POINTS
        if unit != "points":
            margin = MARGIN_SHARE * divergences[budget] if budget in divergences else None
        yield Verdict(
            **place,
            budget=budget,
            method=method,
            against=against,
            pp=mean.mean,
            ci95=(mean.low, mean.high),
            p=mean.p,
            n=change.shape[1],
            seeds=change.shape[0],
            outcome=outcome,
            unit=unit,
            df=mean.df,
            margin=margin,
            budgets=tuple(covered) if budget is None else (budget,),
        )


def _measure_costs(document: ComparisonDocument, table: pd.DataFrame) -> Iterator[MethodCost]:
    """The cost of each method: forward passes and labels as if nothing were cached, and measured seconds.

    All are of the costliest budget, the mean over seeds. Evidence that another method of the same comparison had
    gathered before takes no seconds again: forward passes compare methods, seconds describe this comparison.
    """
    numbers = ["score_s", "recovery_s", "forwards", "labels"]
    first = table[table["part"] == "eval"].astype(dict.fromkeys(numbers, np.float64))
    for method, own in first.groupby("method", sort=False):
        prices = own[["forwards", "labels"]].max()
        stated = bool(prices.notna().all())
        recovering = own.groupby("recovery")["recovery_s"].mean().dropna().to_dict()
        score = own["score_s"].groupby(own["seed"]).max().mean()
        yield MethodCost(
            method,
            float(prices["forwards"]) if stated else None,
            int(prices["labels"]) if stated else None,
            float(score),
            {name: recovering.get(name) for name in document.recoveries if name != NONE.name},
        )


def _measure_overlaps(document: ComparisonDocument) -> Iterator[dict[str, Any]]:
    """The mean Jaccard index of each method's own masks at a budget; ``chance`` is that of random masks."""
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
