"""The table of all budgets: measured row by row from coarse to fine, and interpolated in between."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np

from cahp.board.head_clusters import HeadClusters
from cahp.goals import Goal, ReachedGoal
from cahp.models.cards import Cost, ModelCard
from cahp.outcomes import HEADLINES, Outcomes, finite, main_outcome, measure
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.recoveries import Recovered
from cahp.stages.evaluation import SharedLayers
from cahp.stages.selection import nearest_budget
from cahp.tasks.answers import Evaluation
from cahp.values import (
    BudgetError,
    CahpError,
    Estimate,
    Fields,
    HeadMask,
    Ints,
    JsonObject,
    Progress,
    Selection,
    digest,
    silent,
    spread,
)

#: Number of budgets at which latency is measured; in between it is nearly a straight line.
TIMED = 8


@dataclass(frozen=True)
class Speed:
    """Latency of a pruned model against the full one: their ``ratio`` (below 1: faster), and both medians in ms.

    ``busy`` tells that other work slowed the machine meanwhile.
    """

    ratio: Estimate
    full_ms: float
    pruned_ms: float
    busy: bool = False

    @classmethod
    def of(cls, ratio: Estimate, full: Cost, pruned: Cost) -> Speed:
        """Build it from measured costs."""
        before = full.latency_ms
        after = pruned.latency_ms
        assert before is not None
        assert after is not None
        return cls(ratio, before.median, after.median, before.noisy or after.noisy)


@dataclass(frozen=True)
class Row:
    """One budget. What is not measured is estimated without an interval, or None where nothing supports an estimate.

    ``values`` are those of the headline outcomes, by name, estimated from the budgets beside it. Between models that
    are measured on request nothing is estimated: they are few, and how far a training gets differs from mask to mask.
    """

    budget: int
    values: Mapping[str, float]
    outcomes: Outcomes | None
    ratio: float | None
    speed: Speed | None


class BudgetTable:
    """The rows of all budgets, from the fewest heads to all heads. Many threads may read while one fills it.

    ``listener`` is called with the mask and its measurement for every measurement. ``timed`` tables miss the latency of
    some budgets, others never do. A table of the same budgets after another recovery, ``timing``, shares its times: a
    recovery does not change them. What is measured after a ``quicker`` recovery stands for what is not measured.
    """

    def __init__(
        self,
        selections: Sequence[Selection],
        *,
        recover: str = "none",
        listener: Callable[[HeadMask, Outcomes | Speed], None] = lambda mask, measured: None,
        timed: bool = True,
        timing: BudgetTable | None = None,
        quicker: BudgetTable | None = None,
    ) -> None:
        self.selections = tuple(selections)
        self._listener = listener
        self._timed = timed
        self.recover = recover
        self._by_budget = {selection.mask.count: selection for selection in selections}
        self.budgets = tuple(self._by_budget)
        #: The budget on the board, which is measured first.
        self.current_budget: int | None = None
        self._outcomes: dict[int, Outcomes] = {}
        self._speed: dict[int, Speed] = {}
        self._quicker = quicker
        if timing is not None:
            self._speed = timing._speed

    def selection(self, budget: int) -> Selection:
        """Return the selection of a budget.

        Raises:
            BudgetError: If there is no such budget.
        """
        if budget not in self._by_budget:
            near = " or ".join(map(str, sorted(sorted(self.budgets, key=lambda other: abs(other - budget))[:2])))
            raise BudgetError(f"a budget of {budget} heads is impossible with these settings; choose {near}")
        return self._by_budget[budget]

    def nearest(self, budget: int) -> Selection:
        """Return the selection of the budget that is nearest to ``budget``, of two the larger one."""
        return self.selection(nearest_budget(self.budgets, budget))

    def has(self, mask: HeadMask) -> bool:
        """Whether the mask is the table's mask of its budget."""
        return mask.count in self._by_budget and self._by_budget[mask.count].mask.sha256 == mask.sha256

    @property
    def full(self) -> Outcomes | None:
        """Outcomes of the full model (None: not measured)."""
        return self._outcomes.get(self.budgets[-1])

    def add(self, budget: int, *, outcomes: Outcomes | None = None, speed: Speed | None = None) -> None:
        """Enter a measurement; a time of a busy machine does not replace a reliable one."""
        mask = self.selection(budget).mask
        if outcomes is not None:
            self._outcomes[budget] = outcomes
            self._listener(mask, outcomes)
        if speed is not None:
            if budget not in self._speed or not speed.busy:
                self._speed[budget] = speed
            self._listener(mask, self._speed[budget])

    def row(self, budget: int) -> Row:
        """Return the row of a budget."""
        return self.rows()[self.budgets.index(budget)]

    def rows(self) -> list[Row]:
        """Return all rows, interpolated between the measurements."""
        # Copies, because another thread may fill the table.
        outcomes = self._outcomes.copy()
        speed = self._speed.copy()
        values: dict[int, dict[str, float]] = {budget: {} for budget in self.budgets}
        for headline in HEADLINES:
            name = headline.name
            known = {budget: estimate.value for budget, estimate in self.estimates(name).items()}
            if not RECOVERIES[self.recover].on_request:
                if self._quicker is not None:
                    for budget, estimate in self._quicker.estimates(name).items():
                        known.setdefault(budget, estimate.value)
                known = _interpolate(self.budgets, known)
            for budget, value in known.items():
                values[budget][name] = value
        ratios = {budget: timing.ratio.value for budget, timing in speed.items() if not timing.busy}
        if ratios:
            # With all heads kept, both models are the same.
            ratios[self.budgets[-1]] = 1.0
        ratios = _interpolate(self.budgets, ratios)
        return [
            Row(budget, values[budget], outcomes.get(budget), ratios.get(budget), speed.get(budget))
            for budget in self.budgets
        ]

    def estimates(self, name: str) -> dict[int, Estimate]:
        """Return the measured values of an outcome by budget."""
        measured = sorted(self._outcomes.copy().items())
        return {budget: outcomes[name] for budget, outcomes in measured if name in outcomes}

    def measured(self) -> tuple[int, int]:
        """Return the number of measured rows and of all rows."""
        return len(self._outcomes), len(self.budgets)

    def list_unmeasured(self) -> list[HeadMask]:
        """Return the masks whose outcomes are to be measured, without that of all heads."""
        masks = [one.mask for one in self.selections if one.mask.count not in self._outcomes and not one.mask.is_full]
        if self.recover == NONE.name:
            return masks
        # Some models cannot do without the attention of a layer, so masks without one are not recovered.
        return [mask for mask in masks if not mask.empty_layers]

    def missing(self) -> tuple[Literal["outcomes", "speed"], int] | None:
        """Return what to measure next: the current budget, then coarse to fine, timings after the coarse part.

        Some models are measured only on request, so their tables miss nothing.
        """
        if RECOVERIES[self.recover].on_request:
            return None
        if self.budgets[-1] not in self._outcomes:
            return "outcomes", self.budgets[-1]
        lacking = {mask.count for mask in self.list_unmeasured()}
        if self.current_budget in lacking:
            return "outcomes", self.current_budget
        rough = len(self._outcomes) >= min(len(self.budgets), 2 * TIMED)
        if self._timed and (rough or not lacking):
            for place in spread(len(self.budgets) - 1, TIMED):
                budget = self.budgets[place]
                if budget not in self._speed and not self.selections[place].mask.empty_layers:
                    return "speed", budget
        for budget in coarse_to_fine(self.budgets):
            if budget in lacking:
                return "outcomes", budget
        return None

    def as_json(self) -> JsonObject:
        """Return the measurements for a file."""
        outcomes = {str(budget): finite(measured) for budget, measured in sorted(self._outcomes.items())}
        speed = {str(budget): timing for budget, timing in sorted(self._speed.items()) if not timing.busy}
        return {"recover": self.recover, "outcomes": outcomes, "speed": speed}

    def fill_from(self, content: Fields) -> None:
        """Enter the measurements that ``as_json`` wrote.

        Raises:
            KeyError, TypeError, ValueError: If they are missing or malformed.
        """
        for budget, outcomes in msgspec.convert(content["outcomes"], dict[int, Outcomes], strict=False).items():
            self.add(budget, outcomes=outcomes)
        for budget, speed in msgspec.convert(content["speed"], dict[int, Speed], strict=False).items():
            self.add(budget, speed=speed)


def coarse_to_fine(budgets: Sequence[int]) -> Iterator[int]:
    """Yield both ends, the middle, then the middles of the gaps: every prefix covers the range evenly."""
    yield budgets[-1]
    if len(budgets) > 1:
        yield budgets[0]
    gaps = [(0, len(budgets) - 1)]
    # It grows while it is read.
    for low, high in gaps:
        middle = (low + high) // 2
        if low < middle:
            yield budgets[middle]
            gaps += [(low, middle), (middle, high)]


def _interpolate(budgets: Sequence[int], known: Mapping[int, float]) -> dict[int, float]:
    """Interpolate between the known budgets; nothing outside of their range."""
    if not known:
        return {}
    xs = sorted(known)
    inside = [budget for budget in budgets if xs[0] <= budget <= xs[-1]]
    values = np.interp(inside, xs, [known[x] for x in xs])
    return dict(zip(inside, values.tolist(), strict=True))


# Measuring -------------------------------------------------------------------------------------------------


def evaluate_mask(
    bench: Bench,
    mask: HeadMask,
    *,
    recover: str = "none",
    recovered: Recovered | None = None,
    shared: SharedLayers | None = None,
    on_part: Callable[[Outcomes], None] | None = None,
) -> Outcomes:
    """Measure the model under ``mask`` on the evaluation texts, after a recovery, or ``recovered`` already.

    ``shared`` has what it has in common with other masks after this recovery. ``on_part`` receives the estimates from
    the texts so far, whose intervals narrow.
    """
    full = bench.full
    if recovered is None and not mask.is_full:
        recovered = bench.recoveries.recover(mask, recover)
    report = None
    if on_part is not None:

        def report(rows: Ints, answers: Evaluation) -> None:
            if outcomes := measure_part(bench, rows, answers):
                on_part(outcomes)

    answers = bench.measurements.evaluate(
        bench.evaluation, mask=mask, recovered=recovered, shared=shared, on_part=report
    )
    return measure(answers, full=full, seed=bench.settings.seed)


def measure_part(bench: Bench, rows: Ints, answers: Evaluation) -> Outcomes:
    """Estimate the headline outcomes from the ``answers`` to the evaluation texts in ``rows``.

    The accuracy is the full model's plus the change on these texts, and likewise the loss of a language model: texts
    that are easy or hard for both models cancel. Empty where no token of these texts counts.
    """
    full = bench.full
    part = full.take(rows)
    if not len(part.predictions):
        return {}
    outcomes = measure(answers, full=part, seed=bench.settings.seed)
    for name, values, follow in (
        ("accuracy", "correct", lambda mean: min(1.0, mean)),
        ("perplexity", "losses", np.exp),
    ):
        if name in outcomes:
            whole, own, before = (getattr(one, values).mean() for one in (full, answers, part))
            value = float(follow(max(0.0, whole + own - before)))
            outcomes[name] = replace(outcomes[name], value=value, ci95=None)
    return {row.name: outcomes[row.name] for row in HEADLINES if row.name in outcomes}


def count_tokens(table: BudgetTable, bench: Bench) -> float:
    """Tokens that pass the model while ``fill`` measures the outcomes that the table lacks, none of which is stored."""
    masks = table.list_unmeasured()
    recovery = RECOVERIES[table.recover]
    evaluations: float = len(masks)
    if recovery.layerwise:
        # Lower layers that masks share run once.
        shared = {mask.keep[: layer + 1].tobytes() for mask in masks for layer in range(mask.layers)}
        evaluations = len(shared) / bench.card.layers
    recovered = len(masks)
    if not recovery.checked:
        # One pass of the full model serves all masks.
        recovered = min(recovered, 1)
    passes = bench.count_passes(recovery.name) / max(1, len(bench.calibration))
    return evaluations * bench.evaluation.tokens + recovered * passes * bench.calibration.tokens


def fill(table: BudgetTable, bench: Bench, progress: Progress = silent) -> Generator[None, None, BudgetTable]:
    """Measure what the table lacks, one measurement per step.

    First layers that several budgets share run once. Masks with an empty layer are neither timed nor recovered.
    ``progress`` may raise ``Cancelled``.
    """
    shared = None
    if RECOVERIES[table.recover].layerwise:
        shared = SharedLayers(table.list_unmeasured())
    while (task := table.missing()) is not None:
        kind, budget = task
        done, total = table.measured()
        progress("table", done, total)
        mask = table.selection(budget).mask
        if kind == "outcomes":
            table.add(budget, outcomes=evaluate_mask(bench, mask, recover=table.recover, shared=shared))
        else:
            costs = bench.costs(mask)
            table.add(budget, speed=Speed.of(costs.ratio, costs.full, costs.pruned))
        yield
    return table


# Goals -------------------------------------------------------------------------------------------------------


def reach(table: BudgetTable, goal: Goal, card: ModelCard) -> ReachedGoal:
    """Find the fewest heads (for savings: the most) that are measured, or by ``card``'s cache counted, to reach it.

    Raises:
        BudgetError: If none is, with the nearest.
    """
    estimates = {}
    for row, selection in zip(table.rows(), table.selections, strict=True):
        time = None
        if row.speed is not None and not row.speed.busy:
            time = row.speed.ratio
        estimate = goal.estimate(row.outcomes, time=time, cache=card.count_cache_ratio(selection.mask))
        if estimate:
            estimates[row.budget] = estimate
    return goal.choose(estimates, len(table.budgets), unit=card.unit)


# The file ``table.json`` beside a run: the measurements of all budgets, schema ``cahp.table/2`` ---------------------


TABLE_SCHEMA = "cahp.table/2"
TABLE_FILE = "table.json"


def table_json(table: BudgetTable, run: RunDocument) -> JsonObject:
    """Return the content of ``table.json``."""
    rows = table.as_json()
    measured = sorted({int(budget) for kind in ("outcomes", "speed") for budget in rows[kind]})
    return {
        "schema": TABLE_SCHEMA,
        "of": _of(run),
        "masks": {str(budget): table.selection(budget).mask.sha256 for budget in measured},
        "rows": rows,
    }


def table_of(
    run: RunDocument,
    clusters: HeadClusters,
    content: Fields | None = None,
    *,
    quicker: BudgetTable | None = None,
) -> BudgetTable:
    """Build the table of a run's budgets from the ``content`` of ``table.json`` and the run's own measurements.

    What is measured after a ``quicker`` recovery stands for what is not measured.

    Raises:
        CahpError: If ``content`` is no such table.
    """
    recover = run.settings.recover if "recovered" in run.outcomes else NONE.name
    selections = clusters.selections(run.settings)
    if not selections:
        most = max(run.settings.min_per_layer, run.settings.min_first_layers)
        raise CahpError(
            f"The run keeps at least {most} heads in a layer, but its model has fewer. Prune the model again."
        )
    ours = {str(selection.mask.count): selection.mask.sha256 for selection in selections}
    rows: Fields = {"outcomes": {}, "speed": {}}
    try:
        if content is not None and content["of"] == _of(run):
            recover = content["rows"]["recover"]
            if content["masks"].items() <= ours.items():
                rows = content["rows"]
        # Other models take too long to be swept.
        if recover not in RECOVERIES or RECOVERIES[recover].trains:
            recover = NONE.name
        table = BudgetTable(selections, recover=recover, timed=run.saves_time, quicker=quicker)
        table.fill_from(rows)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CahpError(f"{TABLE_FILE} is broken; write it again with `cahp prune --sweep --out`.") from None
    enter_full(table, run)
    if table.has(run.mask):
        table.add(run.mask.count, outcomes=own_outcomes(run, table.recover), speed=own_speed(run))
    return table


def enter_full(table: BudgetTable, run: RunDocument) -> None:
    """Enter the full model's outcomes, which agrees with itself on every text."""
    full = run.outcomes["full"]
    n = main_outcome(full)[1].n
    same = {"agreement": Estimate(1.0, (1.0, 1.0), n, "share")}
    if "accuracy" in full:
        same["accuracy_change"] = Estimate(0.0, (0.0, 0.0), n, "points")
    if "kl" in run.outcomes.get("pruned", {}):
        same["kl"] = Estimate(0.0, (0.0, 0.0), n, "nats")
    table.add(table.budgets[-1], outcomes={**full, **same})


def own_outcomes(run: RunDocument, recover: str) -> Outcomes | None:
    """Return the outcomes of the run's own mask after a recovery (None: not measured)."""
    return run.outcomes.get({run.settings.recover: "recovered", NONE.name: "pruned"}.get(recover, ""))


def own_speed(run: RunDocument) -> Speed | None:
    """Return the latency of the run's own mask (None: not measured)."""
    ratio = run.latency_ratio
    if ratio is None:
        return None
    return Speed.of(ratio, run.cost.full, run.cost.pruned)


def _of(run: RunDocument) -> dict[str, str]:
    """What the figures of a run's budgets depend on, besides their masks."""
    settings = run.settings
    recovery = (run.data.select.sha256, settings.recover_data, settings.recover_time, settings.labels, settings.seed)
    return {"model": run.model.sha256, "eval": run.data.eval.sha256, "recovery": digest(*map(str, recovery))}
