from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from clusters import arrays_of, on_a_line, outcomes, ratio_of, speed
from documents import outcome_records, run_json, scores

from cahp.board.budget_sweep import BudgetTable, Speed
from cahp.models.cards import Cost, Costs, Timing
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.ui.session.results import Results
from cahp.values import HeadMask

#: The mask of the run below, and one with as many heads in each layer.
OF_THE_RUN, ALIKE = HeadMask.of([0, 2, 4], 2, 3), HeadMask.of([1, 2, 5], 2, 3)


def run(**changes: Any) -> RunDocument:
    """A run whose mask keeps 0 and 2 of the first layer and 1 of the second."""
    return RunDocument.from_json(run_json() | changes)


def recovered(how: str) -> RunDocument:
    said = run_json()
    measured = outcome_records(scores(0.94, 0.92, 0.95, 0.96), {"pp": -1.3, "ci95": [-2.0, -0.6]})
    return run(settings=said["settings"] | {"recover": how}, outcomes=said["outcomes"] | {"recovered": measured})


def planned(results: Results, *, recover: Any = "none", **settings: Any) -> BudgetTable:
    asked = Settings(**settings)
    results.arrays = arrays_of(on_a_line())
    found = results.table(asked, recover)
    assert found is not None
    return found


def test_a_run_says_how_its_own_mask_does_and_of_no_other() -> None:
    results = Results(run())
    found = results.outcomes(OF_THE_RUN)
    assert found is not None
    assert (found["accuracy"].value, found["accuracy_change"].value) == (0.912, -4.1)
    assert results.outcomes(ALIKE) is None
    assert results.outcomes(OF_THE_RUN, "refit") is None


@pytest.mark.parametrize(("how", "there"), [("refit", True), ("finetune", False)])
def test_only_a_refit_answers_for_the_refitted_mask(how: str, there: bool) -> None:
    found = Results(recovered(how)).outcomes(OF_THE_RUN, "refit")
    assert (found is not None) == there
    assert found is None or found["accuracy"].value == 0.94


def test_speed_depends_on_how_many_heads_a_layer_keeps_and_not_on_which() -> None:
    results = Results(run())
    found = results.speed(ALIKE)
    assert found is not None
    assert found.ratio.value == 0.82
    assert results.speed(HeadMask.of([0, 3, 4], 2, 3)) is None
    assert Results(run(latency_ratio=None)).speed(OF_THE_RUN) is None


def test_what_a_table_measures_is_found_by_the_mask_of_its_budget() -> None:
    results = Results(run())
    plain, refitted = planned(results), planned(results, recover="refit")
    plain.add(2, outcomes=outcomes(0.5), speed=speed(0.6))
    refitted.add(2, outcomes=outcomes(0.8))
    mask = plain.selection(2).mask
    assert results.outcomes(mask) == outcomes(0.5)
    assert results.outcomes(mask, "refit") == outcomes(0.8)
    assert results.speed(mask) == speed(0.6)


def test_a_new_table_begins_with_the_full_model_of_the_run() -> None:
    results = Results(run())
    table = planned(results)
    assert table.measured() == (1, 5)
    assert table.full is not None
    assert {name: table.full[name].value for name in ("accuracy", "agreement", "accuracy_change")} == {
        "accuracy": 0.953,
        "agreement": 1.0,
        "accuracy_change": 0.0,
    }
    assert results.outcomes(HeadMask.full(2, 3)) == table.full


def test_what_was_timed_here_is_the_time_everywhere() -> None:
    results = Results(run())
    table = planned(results)
    mask = table.selection(3).mask
    table.add(3, speed=speed(0.7))
    calm, busy = Timing(10.0, 11.0, 8, 64, 40), Timing(8.0, 16.0, 8, 64, 40)
    costs = Costs(Cost(100, 1000, calm), Cost(50, 600, busy), ratio_of(0.8, 0.7, 0.9), 0.3)
    results.add_costs(mask, costs)
    # The time of a busy machine does not replace a reliable one.
    assert results.speed(mask) == table.row(3).speed == speed(0.7)
    reliable = replace(costs, pruned=Cost(50, 600, calm))
    results.add_costs(mask, reliable)
    expected = Speed(ratio_of(0.8, 0.7, 0.9), 10.0, 10.0)
    assert results.speed(mask) == table.row(3).speed == expected
    results.add_costs(mask, costs)
    assert results.speed(mask) == expected
    assert results.costs(mask) == reliable
    assert results.costs(OF_THE_RUN) is (reliable if mask.by_layer == OF_THE_RUN.by_layer else None)
