from dataclasses import replace
from typing import Any

from clusters import arrays_of, on_a_line, ratio_of, speed
from documents import run_json

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


def planned(results: Results, *, recover: Any = "none", **settings: Any) -> BudgetTable:
    asked = Settings(**settings)
    results.arrays = arrays_of(on_a_line())
    found = results.table(asked, recover)
    assert found is not None
    return found


def test_speed_depends_on_how_many_heads_a_layer_keeps_and_not_on_which() -> None:
    results = Results(run())
    found = results.speed(ALIKE)
    assert found.ratio.value == 0.82
    assert results.speed(HeadMask.of([0, 3, 4], 2, 3)) is None
    assert Results(run(latency_ratio=None)).speed(OF_THE_RUN) is None


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
