"""Searches: for the number of heads that reaches a goal, and for swaps of heads that improve a choice."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cahp.goals import Goal, ReachedGoal
from cahp.outcomes import Outcomes, estimate_mean, measure
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench
from cahp.run.measures import Measures
from cahp.run.settings import AFTERWARDS, CHOOSING, IN_DIGESTS, MACHINE, key_fields, parse_duration
from cahp.stages.replacement import Replaceability
from cahp.stages.selection import Minimum, read_budget
from cahp.store import key
from cahp.tasks.texts import Texts
from cahp.values import Estimate, Floats, HeadMask, OptionError, Selection, spread

#: Number of evenly spread budgets among which the search begins.
_COARSE = 9


def reach_goal(bench: Bench, choose: Callable[[int], Selection], measures: Measures) -> ReachedGoal:
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
    if recovery.trains:
        swept = ", ".join(row.name for row in RECOVERIES.values() if not row.trains)
        raise OptionError(
            f"--goal measures many budgets, and --recover {recovery.name} trains a model for each; use one of {swept}"
        )
    if goal.is_counted and bench.card.count_cache_ratio(bench.card.full_mask) is None:
        raise OptionError(f"--goal {goal} needs a causal language model, whose cache is known; choose another goal")
    # The measure that the goal is about, if it counts what one measures.
    counted = next((one for one in measures if one.name == goal.kind.section), None)
    if goal.kind.section and counted is None:
        raise OptionError(f"--goal {goal} cannot be measured here; choose another goal")
    estimates = dict[int, Estimate]()
    rules = settings.budget_rules(bench.card)
    rules.check_minimum()
    budgets = rules.possible

    def measure_goal(mask: HeadMask) -> Estimate | None:
        """Measure what the goal is about, with the run's recovery (None: it is not measured)."""
        if goal.is_counted:
            return bench.card.count_cache_ratio(mask)
        if goal.kind.saves:
            return bench.costs(mask).ratio
        recovered = None
        if not mask.is_full:
            recovered = bench.recoveries.recover(mask, settings.recover)
        if counted is not None:
            return counted.goal(bench, mask, recovered)
        answers = bench.measurements.evaluate(bench.evaluation, mask=mask, recovered=recovered)
        return goal.estimate(measure(answers, full=bench.full, seed=settings.seed))

    def reaches(budget: int) -> bool:
        estimate = measure_goal(choose(budget).mask)
        if estimate is None:
            return False
        estimates[budget] = estimate
        return goal.is_reached_by(estimate)

    if goal.wants_most:
        search(budgets[::-1], reaches)
    else:
        search(budgets, reaches)
    return goal.choose(estimates, len(budgets))


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


# Swaps of heads ----------------------------------------------------------------------------------------------


STAGE = "search"
#: Settings that change no trial; its texts, drawn by the seed, and its precision are part of its key.
_NOT_IN_TRIALS = (*IN_DIGESTS, *CHOOSING, *AFTERWARDS, *MACHINE, "pool_size", "projection", "seed")


@dataclass(frozen=True)
class Swap:
    """A swap of two heads ``(layer, head)``, and its change of KL divergence (below 0: better)."""

    removed: tuple[int, int]
    restored: tuple[int, int]
    change: Estimate


@dataclass(frozen=True)
class HeadSearch:
    """A search for better heads: its ``seconds``, the number of swaps ``tried``, and the accepted ``swaps``.

    ``change`` is that of the KL divergence by all swaps together, on calibration texts that chose none of them (None:
    no swap was accepted). Unless it is below 0, the heads at the start were ``kept`` instead.
    """

    seconds: float
    tried: int
    swaps: tuple[Swap, ...]
    change: Estimate | None
    kept: bool


def improve_heads(bench: Bench, selection: Selection) -> tuple[Selection, HeadSearch]:
    """Swap kept and removed heads while that lowers the KL divergence, within ``--select-time``.

    Swaps are tried from the one that promises most: to remove the head that others replace best, and to restore the one
    that they replace worst (``Replaceability.losses``). A swap is accepted if the paired interval of its change lies
    below 0. Trials are stored with their seconds, which count: an interrupted search goes on, and a finished one
    is repeated at once. Evaluation texts are never used.

    Raises:
        OptionError: If there are too few calibration texts.
    """
    settings = bench.settings
    resources = bench.resources
    trials = _Trials(bench)
    limit = parse_duration(settings.select_time or "0s", "--select-time")
    start = selection.mask
    mask = start
    replaceability = Replaceability(bench.evidence.moments)
    swaps = []
    tried = {start.sha256}
    best, spent = trials.divergences(start, trials.compared)
    seconds = spent
    total = int(limit) + 1
    # Every mask keeps as many heads.
    least = settings.budget_rules(start).layer_minimum(start.count)
    waiting = propose_swaps(replaceability.losses(mask), mask, least)
    # As long as another trial fits into the time that is left.
    while seconds + spent <= limit and (proposal := next(waiting, None)) is not None:
        resources.progress(STAGE, int(seconds), total)
        removed, restored = proposal
        candidate = swap(mask, removed, restored)
        if candidate.sha256 in tried:
            continue
        tried.add(candidate.sha256)
        divergences, spent = trials.divergences(candidate, trials.compared)
        seconds += spent
        change = trials.compare(divergences, best, trials.compared)
        if change.ci95 is not None and change.high < 0:
            swaps.append(Swap(divmod(removed, mask.heads), divmod(restored, mask.heads), change))
            mask = candidate
            best = divergences
            waiting = propose_swaps(replaceability.losses(mask), mask, least)
    resources.progress(STAGE, total, total)
    together = None
    if swaps:
        after, _ = trials.divergences(mask, trials.confirming)
        before, _ = trials.divergences(start, trials.confirming)
        together = trials.compare(after, before, trials.confirming)
    kept = together is None or not together.value < 0
    if kept:
        mask = start
    rescued = tuple(head for head in selection.rescued if head in mask.flat)
    return replace(selection, mask=mask, rescued=rescued), HeadSearch(
        round(seconds, 1), len(tried) - 1, tuple(swaps), together, kept
    )


def swap(mask: HeadMask, removed: int, restored: int) -> HeadMask:
    """The mask without one head and with another, both as flat indices."""
    keep = mask.keep.copy()
    keep.flat[removed] = False
    keep.flat[restored] = True
    return HeadMask(keep)


def propose_swaps(losses: Floats, mask: HeadMask, least: Minimum) -> Iterator[tuple[int, int]]:
    """All swaps ``(removed, restored)``, as flat indices, that leave each layer its ``least`` number of heads.

    The one that promises most is first: by the ``losses (L, H)`` of the head that it removes and of that it restores.
    """
    spare = mask.keep.sum(axis=1) > least
    flat = losses.ravel()
    kept = np.flatnonzero(mask.keep)
    gone = np.flatnonzero(~mask.keep)
    promised = flat[kept][:, None] - flat[gone]
    for place in np.argsort(promised, axis=None, kind="stable"):
        removed = int(kept[place // len(gone)])
        restored = int(gone[place % len(gone)])
        if removed // mask.heads == restored // mask.heads or spare[removed // mask.heads]:
            yield removed, restored


class _Trials:
    """The KL divergence of masks after a quick refit, on calibration texts; each is stored."""

    def __init__(self, bench: Bench) -> None:
        texts = bench.calibration
        refitted, compared = texts.task.trial
        rows = np.array(texts.text_rows)
        third = len(rows) // 3
        if third < 2:
            raise OptionError("--select-time needs at least 6 calibration texts; raise --limit (or --tokens)")
        order = np.random.default_rng(bench.settings.seed).permutation(rows)
        # At most a third each for a quick refit, for comparing its result, and for confirming all swaps together. What
        # is read twice is no text, and helps only the refit.
        others = np.setdiff1d(np.arange(len(texts)), rows)[:refitted]
        self._refitted = texts.take(np.sort([*order[: min(refitted, third)], *others]))
        self.compared = texts.take(np.sort(order[third : third + min(compared, third)]))
        self.confirming = texts.take(np.sort(order[2 * third : 2 * third + min(compared, third)]))
        self._bench = bench

    def divergences(self, mask: HeadMask, texts: Texts) -> tuple[Floats, float]:
        """The divergence of each text, or token, after the refit, and the seconds that this took when it was done."""
        resources = self._bench.resources
        settings = key_fields(self._bench.settings, without=_NOT_IN_TRIALS)
        digests = (resources.card.sha256, self._refitted.sha256, texts.sha256, mask.sha256)
        name = key("trial", 2, *digests, resources.precisions.evaluation, settings)
        stored = resources.store.read(name, lambda entry: (entry.arrays["kl"], float(entry.meta["seconds"])))
        if stored is not None:
            return stored
        from cahp.models.surgery import cut
        from cahp.stages.recovery import solve

        # Loading the model and running it on the texts happens once, and not in each trial.
        model = self._bench.model
        full = self._bench.measurements.evaluate(texts)
        start = resources.clock()
        pruned = cut(model, mask) if model.card.no_refit else solve(model, mask, self._refitted.inputs)
        divergences = self._bench.measurements.evaluate_model(pruned, texts).divergences(full)
        seconds = resources.clock() - start
        resources.keep(name, {"kl": divergences}, {"seconds": seconds})
        return divergences, seconds

    def compare(self, after: Floats, before: Floats, texts: Texts) -> Estimate:
        """The mean change of the divergence, with its paired interval."""
        full = self._bench.measurements.evaluate(texts)
        return estimate_mean(after - before, self._bench.settings.seed, units=full.units)
