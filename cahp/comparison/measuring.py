"""One cell, measured: choose a mask, recover the model, answer the evaluation texts. Runs here or in a worker.

What is measured is handed over as it is made, ready to be kept: a cell may be stopped between two recoveries that
took hours each.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, cast

from numpy.typing import NDArray

from cahp import methods
from cahp.comparison.benches import Benches
from cahp.comparison.cells import (
    Answers,
    Keep,
    MaskChoice,
    Measured,
    answers_key,
    cached_answers,
    cached_choice,
    choice_key,
)
from cahp.comparison.plan import Cell, learned
from cahp.registry import Evidence
from cahp.values import BudgetError, Cancelled, DataError, Evaluation, Floats, HeadMask, Price, Texts

#: With fewer texts a refit holds none out to be accepted by.
_FEWEST = 5


def measure(benches: Benches, cell: Cell, keep: Keep) -> Measured:
    """What is cached of a cell, and the rest measured now; ``keep`` gets each new part as soon as it is there.

    A method or a recovery that fails costs the cell, not the comparison.
    """
    choice: MaskChoice | None = None
    answers: dict[tuple[str, str], Answers] = {}
    try:
        choice = cached_choice(benches, cell)
        if choice is None:
            choice = _choose(benches, cell)
            keep(choice_key(benches, cell), choice.entry())
        for recovery in benches.plan.recoveries_of(cell):
            for split, one in _answered(benches, cell, choice.mask, recovery, keep).items():
                answers[recovery, split] = one
    except (Cancelled, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or "no reason given"
        return Measured(cell, choice, answers, f"{type(error).__name__}: {said}")
    return Measured(cell, choice, answers)


# --- the mask


def _choose(benches: Benches, cell: Cell) -> MaskChoice:
    bench = benches.bench(cell.seed)
    redrawn = cell.noise != cell.seed
    evidence = cast(Evidence, _Redrawn(bench.evidence, cell.noise) if redrawn else bench.evidence)
    floor = benches.plan.settings.min_per_layer
    best: tuple[int, HeadMask, dict[str, Any]] | None = None
    start = perf_counter()
    settings = benches.plan.tried(cell.method)
    for setting in settings:
        method = methods.get(cell.method, **setting)
        mask = method.choose(evidence, budget=cell.budget, min_per_layer=floor).mask
        if mask.count != cell.budget:
            raise BudgetError(f"{cell.method} kept {mask.count} heads and not the {cell.budget} asked for")
        right = 0
        if benches.tuning_texts is not None and len(settings) > 1:
            right = int(bench.measurements.evaluate(benches.tuning_texts, mask=mask).correct.sum())
        # Of equals the first, which is the default.
        if best is None or right > best[0]:
            best = right, mask, dict(setting)
    assert best is not None
    seconds = perf_counter() - start
    _, mask, chosen = best
    return MaskChoice(mask, chosen, priced(benches, cell, evidence), seconds)


def priced(benches: Benches, cell: Cell, evidence: Evidence) -> Price | None:
    """What the choice of a cell costs, if its method says so: with all settings that are tried, and their tuning."""
    settings, prices = benches.plan.tried(cell.method), []
    for setting in settings:
        price: Callable[..., Price] | None = getattr(methods.get(cell.method, **setting), "price", None)
        if price is None:
            return None
        prices.append(price(evidence, budget=cell.budget))
    # Gates are trained for each setting; others weigh the same evidence in another way.
    trained = learned(cell.method)
    forwards = (sum if trained else max)(float(price.forwards) for price in prices)
    labels = max(int(price.labels) for price in prices)
    if benches.tuning_texts is None or len(settings) == 1:
        return Price(forwards, labels)
    tuning = len(benches.tuning_texts)
    return Price(forwards + len(settings) * tuning, labels + tuning)


class _Redrawn:
    """The same evidence with another seed for the method's own randomness, for one more draw."""

    def __init__(self, evidence: Evidence, seed: int) -> None:
        self._evidence, self.seed = evidence, seed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evidence, name)

    def remembered(self, name: str, make: Callable[[], Floats]) -> NDArray[Any]:
        return self._evidence.remembered(f"{name}, drawn with {self.seed}", make)


# --- the answers


def _answered(benches: Benches, cell: Cell, mask: HeadMask, recovery: str, keep: Keep) -> dict[str, Answers]:
    """By split, what a mask answers after a recovery; ``keep`` gets what was not cached."""
    found = cached_answers(benches, cell, mask, recovery)
    missing = [split for split, one in found.items() if one is None]
    if missing:
        # Read before the clock runs: whoever comes first would pay for it.
        _ = benches.bench(cell.seed).model
        start = perf_counter()
        answering = _answering(benches, cell, mask, recovery)
        took = 0.0 if recovery == "none" else perf_counter() - start
        for split in missing:
            texts = benches.splits[split]
            start = perf_counter()
            made = answering(texts)
            found[split] = one = Answers(made, took, perf_counter() - start)
            keep(answers_key(benches, cell, mask, recovery, texts), one.entry())
    return cast(dict[str, Answers], found)


def _answering(benches: Benches, cell: Cell, mask: HeadMask, recovery: str) -> Callable[[Texts], Evaluation]:
    """The model that answers: pruned, and recovered on the calibration texts of the cell's seed."""
    bench = benches.bench(cell.seed)
    if recovery == "none" and mask.is_full:
        # Its time tells what a comparison will take, so it is answered now, also where the answers are known.
        return lambda texts: bench.measurements.answers(bench.model, texts)
    if recovery == "none":
        return lambda texts: bench.measurements.evaluate(texts, mask=mask)
    # Weights are not kept: those of hundreds of masks would push everything else out of the store.
    if recovery == "refit":
        from cahp.stages.recovery import refit

        if len(bench.calibration) < _FEWEST:
            raise DataError(
                f"every fifth text decides on a refit, and there are only {len(bench.calibration)}; raise --limit"
            )
        walk = benches.walk(bench.calibration)
        model = refit(bench.model, mask, bench.calibration, walk=walk, progress=bench.resources.progress).model
    elif recovery == "distill":
        model = bench.measurements.pruned(mask, bench.measurements.distill(mask, keep=False))
    else:
        model = bench.measurements.pruned(mask, bench.measurements.finetune(mask, keep=False))
    return lambda texts: bench.measurements.answers(model, texts)
