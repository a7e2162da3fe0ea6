"""The board's data say of a mask that it cannot be cut only if that was found."""

from __future__ import annotations

import pytest
from documents import run_json

from cahp.board.contents import BoardSubject
from cahp.run.document import RunDocument


@pytest.mark.parametrize(("documents", "units"), [(7, "windows"), (8, "documents")])
def test_a_board_says_what_its_intervals_are_over(documents: int, units: str) -> None:
    protocol = {"window": 256, "stride": 256, "bos": "<s>", "tokens": 4096, "documents": documents}
    run = RunDocument.from_json({**run_json(), "protocol": protocol})
    assert BoardSubject.of(run).units == units
