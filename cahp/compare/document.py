"""A comparison as its file holds it: what was asked, every cell, and who answered which text rightly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.compare.benches import Benches
from cahp.compare.cells import Answers, Measured
from cahp.compare.estimate import Estimate
from cahp.compare.plan import FULL, Cell, about
from cahp.compare.result import SCHEMA, Comparison
from cahp.files import plain_json
from cahp.run.bench import label_reading, labelling
from cahp.run.document import SplitRecord, versions
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
    document = {
        "schema": SCHEMA,
        "model": {name: getattr(card, name) for name in ("id", "revision", "family", "layers", "heads", "sha256")},
        "data": {
            "id": benches.dataset.id,
            "classes": list(benches.dataset.classes),
            "select": [
                {"seed": seed, **vars(SplitRecord.of(settings.select_split, benches.bench(seed).calibration))}
                for seed in plan.seeds
            ],
            "eval": vars(SplitRecord.of(settings.eval_split, benches.splits["eval"])),
            "steer": benches.tuning_texts and vars(SplitRecord.of(settings.eval_split, benches.tuning_texts)),
            "report": vars(SplitRecord.of("test", benches.splits["report"])) if "report" in benches.splits else None,
        },
        "settings": plan.as_json(),
        "methods": about(plan.methods),
        "full": [rows.cell(found[cell]) for cell in references],
        "cells": [rows.cell(found[cell]) for cell in cells],
        "estimate": cost.as_json(),
        "timings": {"total_s": seconds},
        "test_opened": opened,
        "notices": _notices(benches, found),
        "versions": versions(),
        "command": command,
    }
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
    if plan.tries_used < plan.tries:
        notices.append(
            f"settings were chosen among {plan.tries_used}, not {plan.tries}: no method gets more tries than another."
        )
    if plan.recovered_draws is not None or plan.draws is not None:
        notices.append(
            f"of a method of chance at most {plan.draws or 'all its'} masks were drawn and "
            f"{plan.recovered_draws or 'all'} of them recovered, over all seeds."
        )
    few = [name for name in plan.methods if name in plan.few_seeds]
    if few and len(plan.seeds) > 1:
        notices.append(f"{', '.join(few)} take so long that they were measured with one seed alone.")
    failed = [one for one in found.values() if one.error]
    if failed:
        names = ", ".join(dict.fromkeys(one.cell.method for one in failed))
        notices.append(f"{len(failed)} cells failed ({names}): {failed[0].error}")
    return notices


class _Rows:
    """Cells as the document holds them, and the rows of who was right."""

    def __init__(self, splits: Sequence[str], reference: Measured) -> None:
        self._reference = reference
        self._right: dict[str, list[NDArray[np.bool_]]] = {split: [] for split in splits}
        #: The unpruned model's answers after each recovery, by seed.
        self._full: dict[tuple[str, int, str], Evaluation] = {}

    @property
    def right(self) -> dict[str, NDArray[np.bool_]]:
        return {split: np.array(rows) for split, rows in self._right.items()}

    def cell(self, one: Measured) -> dict[str, Any]:
        cell, choice = one.cell, one.choice
        recovered: dict[str, dict[str, Answers]] = {}
        for (recovery, split), answers in one.answers.items():
            recovered.setdefault(recovery, {})[split] = answers
            if cell.method == FULL:
                self._full[recovery, cell.seed, split] = answers.evaluation
        return {
            "method": cell.method,
            "setting": {} if choice is None else dict(choice.setting),
            "seed": cell.seed,
            "draw": cell.draw,
            "noise": cell.noise,
            "budget": {"requested": cell.budget, "attained": None if choice is None else choice.mask.count},
            "kept": None if choice is None else {str(at): heads for at, heads in enumerate(choice.mask.by_layer)},
            "recoveries": {name: self._recovery(cell, name, answers) for name, answers in recovered.items()},
            "seconds": {
                "score": None if choice is None else choice.seconds,
                "recovery": {name: of["eval"].recovery for name, of in recovered.items() if name != "none"},
                "evaluation": {name: sum(one.seconds for one in of.values()) for name, of in recovered.items()},
            },
            "price": choice and choice.price and {"forwards": choice.price.forwards, "labels": choice.price.labels},
            "error": one.error,
        }

    def _recovery(self, cell: Cell, recovery: str, answers: dict[str, Answers]) -> dict[str, Any]:
        found: dict[str, Any] = {"row": len(self._right["eval"])}
        for split in ("eval", "report"):
            if split not in answers:
                found[split] = None
                continue
            evaluation = answers[split].evaluation
            self._right[split].append(evaluation.correct)
            found[split] = self._quality(cell, recovery, split, evaluation)
        return found

    def _quality(self, cell: Cell, recovery: str, split: str, evaluation: Evaluation) -> dict[str, Any]:
        from cahp.stages.evaluation import delta, metrics

        full = self._reference.answers["none", split].evaluation
        unpruned = cell.method == FULL and recovery == "none"
        # The unpruned model after the same recovery, where that changes it.
        alike = self._full.get((recovery, cell.seed, split)) if recovery == "finetune" and cell.method != FULL else None
        return {
            **plain_json(metrics(evaluation, full=None if unpruned else full)),
            "delta": None if unpruned else plain_json(delta(evaluation, full)),
            "delta_alike": None if alike is None else plain_json(delta(evaluation, alike)),
        }
