"""The search for the number of heads that reaches a goal, over the budgets of any method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cahp.goals import Goal, ReachedGoal
from cahp.outcomes import Outcomes, measure
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.measures import Measure, Measures
from cahp.stages.selection import check_floor, possible_budgets, read_budget
from cahp.values import Estimate, HeadMask, OptionError, Selection, spread

#: Number of evenly spread budgets among which the search begins.
_COARSE = 9


def reach_goal(bench: Bench, choose: Callable[[int], Selection], measures: Measures = ()) -> ReachedGoal:
    """Measure budgets, with the run's recovery, until the goal of the settings is reached by the fewest heads.

    ``choose`` selects the heads of a budget. For savings, the most heads are wanted. One of the ``measures`` measures a
    goal that is about it.

    Raises:
        OptionError: If the run's options do not allow a search.
        BudgetError: If no budget reaches the goal, with the nearest.
    """
    settings = bench.settings
    recovery = RECOVERIES[settings.recover]
    assert settings.goal is not None
    goal = Goal.parse(settings.goal)
    if read_budget(settings.budget) is not None:
        raise OptionError("--goal chooses the number of heads; leave out --budget")
    if settings.select_time is not None:
        raise OptionError(
            "--select-time changes the heads after --goal has found their number; leave it out, or give that number as "
            "--budget"
        )
    if not recovery.swept:
        swept = ", ".join(row.name for row in RECOVERIES.values() if row.swept)
        raise OptionError(
            f"--goal measures many budgets, and --recover {recovery.name} trains a model for each; use one of {swept}"
        )
    if goal.is_counted and bench.card.saves != "cache":
        raise OptionError(f"--goal {goal} needs a causal language model, whose cache is known; choose another goal")
    if goal.kind.section:
        _find_measure(goal, measures)
    estimates = dict[int, Estimate]()
    layers = bench.card.layers
    floor = settings.floor(layers)
    check_floor(floor, bench.card.heads)
    budgets = possible_budgets(layers, bench.card.heads, min_per_layer=floor, even=settings.even)

    def reaches(budget: int) -> bool:
        mask = choose(budget).mask
        needs_cut = goal.kind.saves == "time" or recovery is not NONE
        if needs_cut and not bench.measurements.can_cut(mask):
            # Such a model can be neither cut nor recovered.
            return False
        estimate = _measure_goal(bench, goal, mask, measures)
        if estimate is None:
            return False
        estimates[budget] = estimate
        return goal.is_reached_by(estimate)

    if goal.wants_most:
        search(budgets[::-1], reaches)
    else:
        search(budgets, reaches)
    return goal.choose(estimates, len(budgets))


def _measure_goal(bench: Bench, goal: Goal, mask: HeadMask, measures: Measures) -> Estimate | None:
    """Measure what a goal is about for one mask, with the run's recovery (None: it is not measured)."""
    measurements = bench.measurements
    if goal.is_counted:
        return goal.estimate(None, cache=bench.card.count_cache_ratio(mask))
    if goal.kind.saves == "time":
        costs = measurements.costs(mask, length=bench.length, seconds=bench.latency_seconds)
        return goal.estimate(None, time=costs.ratio)
    recovered = None
    if not mask.is_full:
        recovered = bench.recoveries.recover(mask, bench.settings.recover)
    if goal.kind.section:
        return _find_measure(goal, measures).goal(bench, mask, recovered)
    answers = measurements.evaluate(bench.evaluation, mask=mask, recovered=recovered)
    return goal.estimate(measure(answers, full=bench.full, seed=bench.settings.seed))


def _find_measure(goal: Goal, measures: Measures) -> Measure[Any]:
    """Return the measure that a goal is about."""
    for one in measures:
        if one.name == goal.kind.section:
            return one
    raise OptionError(f"--goal {goal} cannot be measured here; choose another goal")


def confirm(goal: ReachedGoal, outcomes: Mapping[str, Outcomes]) -> ReachedGoal:
    """Tell whether the outcomes of each model on the test split reach a goal, too."""
    wanted = Goal.parse(goal.goal)
    estimate = wanted.estimate(outcomes.get("recovered", outcomes["pruned"]))
    if estimate is None:
        return goal
    return replace(goal, confirmed=wanted.is_reached_by(estimate))


def search(budgets: Sequence[int], reaches: Callable[[int], bool]) -> None:
    """Try evenly spread ``budgets`` until one reaches the goal, then halve the gap before it until none is left.

    Where a budget that fails follows one that reaches, the first crossing at this spacing is refined.
    """
    below = -1
    for place in spread(len(budgets), _COARSE).tolist():
        if reaches(budgets[place]):
            break
        below = place
    else:
        return
    while place - below > 1:
        middle = (below + place) // 2
        if reaches(budgets[middle]):
            place = middle
        else:
            below = middle
