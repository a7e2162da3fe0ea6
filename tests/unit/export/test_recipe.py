from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, Literal

import fakes
import numpy as np
import pytest

from cahp.api.evaluate import evaluate
from cahp.board import budget_sweep
from cahp.exports import report as takeaway
from cahp.exports.run_folder import run_archive
from cahp.files import plain_json
from cahp.models.cards import Costs
from cahp.models.head_model import HeadModel
from cahp.outcomes import to_metrics
from cahp.run.bench import Bench
from cahp.run.document import BY_HAND, RunDocument
from cahp.run.prune import Run, measure_mask
from cahp.run.settings import Settings
from cahp.stages import evaluation
from cahp.store import Store
from cahp.tasks.texts import Texts
from cahp.values import HeadMask

MASK = HeadMask(np.array([[True, False, True, False], [False, True, False, False], [True, True, True, True]]))


def measured(bench: Bench, **options: Any) -> RunDocument:
    def costs(mask: HeadMask) -> Costs:
        return bench.measurements.costs(mask, length=8, **fakes.QUICK_COSTS)

    return measure_mask(bench, MASK, command=takeaway.recipe, costs=costs, **options)


def test_a_mask_made_by_hand_gets_the_figures_that_evaluate_gives_it(bench: Bench, tmp_path: Path) -> None:
    run = measured(bench)
    archive = zipfile.ZipFile(io.BytesIO(run_archive(Run(run, MASK, {"labels": np.zeros(12)}))))
    assert archive.testzip() is None
    assert set(archive.namelist()) == {f"cahp-run/{name}" for name in ("run.json", "head_mask.json", "arrays.npz")}
    archive.extractall(tmp_path)
    path = tmp_path / "cahp-run" / "head_mask.json"
    said = json.loads(path.read_text())
    assert said["method"] == BY_HAND
    found = evaluate(bench.settings, mask=path, store=Store(tmp_path / "another"))
    assert found["outcomes"]["pruned"] == run.outcomes["pruned"]
    assert said["metrics"]["pruned"] == plain_json(to_metrics(run.outcomes["pruned"]))
    assert takeaway.recipe(run.settings).startswith("cahp evaluate --mask head_mask.json ")
    assert run.verified.mask_equals_surgery


@pytest.mark.parametrize("recover", ["none", "refit"])
def test_what_the_board_has_measured_is_not_measured_again(
    recover: Literal["none", "refit"], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = budget_sweep.evaluate_mask(bench, MASK, recover=recover)
    again: list[int] = []
    evaluate = evaluation.evaluate

    def counted(model: HeadModel, texts: Texts, **options: Any) -> Any:
        again.append(len(texts))
        return evaluate(model, texts, **options)

    monkeypatch.setattr(evaluation, "evaluate", counted)
    run = measured(bench, recover=recover)
    assert again == []
    assert run.outcomes["pruned" if recover == "none" else "recovered"] == said
    # Another mask is: the count counts.
    budget_sweep.evaluate_mask(bench, HeadMask(~MASK.keep | (np.arange(4) == 3)), recover=recover)
    assert set(again) == {len(bench.evaluation)}


def test_a_recipe_names_what_differs_from_the_default_and_nothing_else() -> None:
    settings = Settings(model="my model", budget="15%")
    assert takeaway.recipe(settings) == "cahp prune --model 'my model' --budget 15% --out cahp-run"
