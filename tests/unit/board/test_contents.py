"""The board's data say of a mask that it cannot be cut only if that was found."""

from __future__ import annotations

from typing import Any

import pytest
from clusters import on_a_line
from documents import run_json

from cahp.board.budget_sweep import BudgetTable
from cahp.board.contents import BoardSubject, Shown, contents
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.values import HeadMask


@pytest.mark.parametrize("found", [False, True])
def test_a_mask_with_an_empty_layer_is_called_uncuttable_once_that_is_found(found: bool) -> None:
    clusters = on_a_line()
    table = BudgetTable(clusters.selections(Settings(min_per_layer=0)))
    own = table.selection(1)
    if found:
        table.uncuttable.add(1)

    def shown(mask: HeadMask) -> dict[str, Any]:
        return contents(table, clusters, Shown(mask, "budget", None, None), labels=clusters.groups(own.k)[0])

    assert own.mask.empty_layers
    data = shown(own.mask)
    said = [budget for budget, row in zip(data["budgets"], data["rows"], strict=True) if row.get("uncuttable")]
    assert said == ([1] if found else [])
    assert data["current"]["uncuttable"] is found
    assert shown(HeadMask(own.mask.keep[::-1]))["current"]["uncuttable"] is False


@pytest.mark.parametrize(("documents", "units"), [(7, "windows"), (8, "documents")])
def test_a_board_says_what_its_intervals_are_over(documents: int, units: str) -> None:
    protocol = {"window": 256, "stride": 256, "bos": "<s>", "tokens": 4096, "documents": documents}
    run = RunDocument.from_json({**run_json(), "protocol": protocol})
    assert BoardSubject.of(run).units == units
