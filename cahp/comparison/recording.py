"""A comparison, written down: what was asked, every cell, and who answered which text rightly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.benches import Benches
from cahp.comparison.cells import Answers, Measured
from cahp.comparison.document import (
    SCHEMA,
    CellBudget,
    CellQuality,
    CellRecord,
    CellSeconds,
    ComparisonDocument,
    DataRecords,
    Participant,
    Recovered,
    SeedSample,
)
from cahp.comparison.estimate import Estimate
from cahp.comparison.plan import FULL, Cell, Plan, about, draws
from cahp.comparison.result import Comparison
from cahp.outcomes import accuracy_change, measure
from cahp.run.bench import label_reading, labelling
from cahp.run.document import ModelRecord, SplitRecord, versions
from cahp.stages.clustering import grid_notice
from cahp.values import Evaluation


def comparison(
    benches: Benches,
    found: Mapping[Cell, Measured],
    cells: Sequence[Cell],
    references: Sequence[Cell],
    *,
    cost: Estimate,
    opened: int,
    command: str,
    seconds: float,
) -> Comparison:
    """What was measured, as a comparison: ``cells`` of methods, and the full model's ``references``, one a seed."""
    plan, card, settings = benches.plan, benches.card, benches.plan.settings
    rows = _Rows(tuple(benches.splits), found[references[0]])
    splits, tuning = benches.splits, benches.tuning_texts
    samples = [(seed, SplitRecord.of(settings.select_split, benches.bench(seed).calibration)) for seed in plan.seeds]
    document = ComparisonDocument(
        schema=SCHEMA,
        model=ModelRecord.of(card),
        data=DataRecords(
            id=benches.dataset.id,
            classes=benches.dataset.classes,
            select=tuple(SeedSample(seed, **vars(sample)) for seed, sample in samples),
            eval=SplitRecord.of(settings.eval_split, splits["eval"]),
            steer=None if tuning is None else SplitRecord.of(settings.eval_split, tuning),
            report=SplitRecord.of("test", splits["report"]) if "report" in splits else None,
        ),
        settings=plan.as_json(),
        methods={name: Participant(**said) for name, said in about(plan.methods).items()},
        full=tuple(rows.cell(found[cell]) for cell in references),
        estimate=cost.as_json(),
        timings={"total_s": seconds},
        test_opened=opened,
        notices=tuple(_notices(benches, found)),
        versions=versions(),
        command=command,
        cells=tuple(rows.cell(found[cell]) for cell in cells),
    )
    return Comparison(document, rows.right)


def _notices(benches: Benches, found: Mapping[Cell, Measured]) -> list[str]:
    plan = benches.plan
    notices = list(dict.fromkeys(benches.notices))
    full = next(one for one in found.values() if one.cell.method == FULL)
    notices += labelling(full.answers["none", "eval"].evaluation, label_reading(benches.raw, benches.dataset))
    if len(plan.seeds) > 1 and benches.alike(plan.seeds):
        notices.append(
            f"{plan.settings.select_split} has no more texts than --limit, so every seed chooses on the same ones; a "
            "lower --limit shows how much the sample matters."
        )
    swept = grid_notice(benches.card.layers * benches.card.heads)
    if swept is not None and "complementary" in plan.methods:
        notices.append(f"complementary: {swept}")
    if plan.tries_used < plan.tries:
        notices.append(
            f"settings were chosen among {plan.tries_used}, not {plan.tries}: no method gets more tries than another."
        )
    if plan.recovered_draws is not None or plan.draws is not None:
        notices += _drawn(plan, found)
    few = [name for name in plan.methods if name in plan.few_seeds]
    if few and len(plan.seeds) > 1:
        notices.append(f"{', '.join(few)} take so long that they were measured with one seed alone.")
    failed = [one for one in found.values() if one.error]
    if failed:
        names = ", ".join(dict.fromkeys(one.cell.method for one in failed))
        notices.append(f"{len(failed)} cells failed ({names}): {failed[0].error}")
    return notices


def _drawn(plan: Plan, cells: Iterable[Cell]) -> Iterator[str]:
    """How many masks of chance there were: every seed has as many of them recovered, which may be more than asked."""
    chance = [cell for cell in cells if cell.method in plan.methods and draws(cell.method) > 1]
    drawn = Counter((cell.method, cell.budget) for cell in chance)
    recovered = Counter((cell.method, cell.budget) for cell in chance if cell.recovered)
    if drawn:
        of_them = "" if plan.recoveries == ("none",) else f", {_most(recovered)} of them recovered"
        yield f"masks of a method of chance at each budget, over all seeds: {_most(drawn)} drawn{of_them}."


def _most(counts: Counter[tuple[str, int]]) -> str:
    return f"{'at most ' if len(set(counts.values())) > 1 else ''}{max(counts.values())}"


class _Rows:
    """Cells as the document records them, and the rows of who was right."""

    def __init__(self, splits: Sequence[str], reference: Measured) -> None:
        self._reference = reference
        self._right: dict[str, list[NDArray[np.bool_]]] = {split: [] for split in splits}
        #: The unpruned model's answers after each recovery, by seed.
        self._full: dict[tuple[str, int, str], Evaluation] = {}

    @property
    def right(self) -> dict[str, NDArray[np.bool_]]:
        return {split: np.array(rows) for split, rows in self._right.items()}

    def cell(self, one: Measured) -> CellRecord:
        cell, choice = one.cell, one.choice
        recovered: dict[str, dict[str, Answers]] = {}
        for (recovery, split), answers in one.answers.items():
            recovered.setdefault(recovery, {})[split] = answers
            if cell.method == FULL:
                self._full[recovery, cell.seed, split] = answers.evaluation
        return CellRecord(
            method=cell.method,
            setting={} if choice is None else dict(choice.setting),
            seed=cell.seed,
            draw=cell.draw,
            noise=cell.noise,
            budget=CellBudget(cell.budget, None if choice is None else choice.mask.count),
            kept=None
            if choice is None
            else {str(layer): tuple(heads) for layer, heads in enumerate(choice.mask.by_layer)},
            recoveries={name: self._recovery(cell, name, answers) for name, answers in recovered.items()},
            seconds=CellSeconds(
                None if choice is None else choice.seconds,
                {name: of["eval"].recovery for name, of in recovered.items() if name != "none"},
                {name: sum(one.seconds for one in of.values()) for name, of in recovered.items()},
            ),
            price=None if choice is None else choice.price,
            error=one.error,
        )

    def _recovery(self, cell: Cell, recovery: str, answers: dict[str, Answers]) -> Recovered:
        row = len(self._right["eval"])
        found: dict[str, CellQuality] = {}
        for split, one in answers.items():
            self._right[split].append(one.evaluation.correct)
            found[split] = self._quality(cell, recovery, split, one.evaluation)
        return Recovered(row, found.get("eval"), found.get("report"))

    def _quality(self, cell: Cell, recovery: str, split: str, evaluation: Evaluation) -> CellQuality:
        full = self._reference.answers["none", split].evaluation
        unpruned = cell.method == FULL and recovery == "none"
        # The unpruned model after the same recovery, where that changes it.
        alike = self._full.get((recovery, cell.seed, split)) if recovery == "finetune" and cell.method != FULL else None
        return CellQuality.of(
            measure(evaluation, full=None if unpruned else full),
            None if alike is None else accuracy_change(evaluation, alike),
        )
