from __future__ import annotations

import csv
import io

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.ui.parts.chart import as_csv


def test_a_table_is_utf8_csv_whose_cells_no_spreadsheet_runs() -> None:
    made = as_csv({"token": ["=1+1", "a,b", "é"], "weight": np.array([0.5, -1.0, 0.0])})
    rows = list(csv.reader(io.StringIO(made.decode("utf-8-sig"))))
    assert rows == [["token", "weight"], ["'=1+1", "0.5"], ["a,b", "-1.0"], ["é", "0.0"]]
    assert as_csv(lambda: {"a": [1]}) == "\ufeffa\n1\n".encode()
