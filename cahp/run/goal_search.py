"""The search for the number of heads that reaches a goal, over the budgets of any method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cahp import processes as parallel
from cahp.goals import Goal, ReachedGoal
from cahp.outcomes import Outcomes, measure
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.stages.selection import possible_budgets, read_budget
from cahp.values import Estimate, OptionError, Selection, spread

#: Number of evenly spread budgets among which the search begins.
_COARSE = 9


def reach_goal(bench: Bench, choose: Callable[[int], Selection]) -> ReachedGoal:
    """Measure budgets, with the run's recovery, until the goal of the settings is reached by the fewest heads.

    ``choose`` selects the heads of a budget. For savings, the most heads are wanted.

    Raises:
        OptionError: If the run's options do not allow a search.
        BudgetError: If no budget reaches the goal, with the nearest.
    """
    settings, recovery = bench.settings, RECOVERIES[bench.settings.recover]
    assert settings.goal is not None
    goal = Goal.parse(settings.goal)
    if read_budget(settings.budget) is not None:
        raise OptionError("--goal chooses the number of heads; leave out --budget")
    if not recovery.swept:
        swept = ", ".join(row.name for row in RECOVERIES.values() if row.swept)
        raise OptionError(
            f"--goal measures many budgets, and --recover {recovery.name} trains a model for each; use one of {swept}"
        )
    if parallel.world() > 1:
        raise OptionError("--goal works in one process; start it without accelerate")
    if goal.is_counted and bench.card.saves != "cache":
        raise OptionError(f"--goal {goal} needs a causal language model, whose cache is known; choose another goal")
    estimates = dict[int, Estimate]()
    budgets = possible_budgets(
        bench.card.layers, bench.card.heads, min_per_layer=settings.min_per_layer, even=settings.even
    )

    def reaches(budget: int) -> bool:
        mask, recovered, outcomes, time, cache = choose(budget).mask, None, None, None, None
        needs_cut = goal.kind.saves == "time" or recovery is not NONE
        if needs_cut and not bench.measurements.can_cut(mask):
            # Such a model can be neither cut nor recovered.
            return False
        if goal.is_counted:
            cache = bench.card.count_cache_ratio(mask)
        elif goal.kind.saves == "time":
            time = bench.measurements.costs(mask, length=bench.length, seconds=bench.latency_seconds).ratio
        else:
            if not mask.is_full:
                recovered = bench.recoveries.recover(mask, recovery.name)
            answers = bench.measurements.evaluate(bench.evaluation, mask=mask, recovered=recovered)
            outcomes = measure(answers, full=bench.full, seed=settings.seed)
        estimate = goal.estimate(outcomes, time=time, cache=cache)
        if estimate is not None:
            estimates[budget] = estimate
        return estimate is not None and goal.is_reached_by(estimate)

    search(budgets[::-1] if goal.wants_most else budgets, reaches)
    return goal.choose(estimates, len(budgets))


def confirm(goal: ReachedGoal, outcomes: Mapping[str, Outcomes]) -> ReachedGoal:
    """Tell whether the outcomes of each model on the test split reach a goal, too."""
    wanted = Goal.parse(goal.goal)
    estimate = wanted.estimate(outcomes.get("recovered", outcomes["pruned"]))
    return goal if estimate is None else replace(goal, confirmed=wanted.is_reached_by(estimate))


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
