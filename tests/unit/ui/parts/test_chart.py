from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from plotly.basedatatypes import BaseFigure
from streamlit.testing.v1 import AppTest

from cahp.ui.parts.chart import as_csv


def test_a_table_is_utf8_csv_whose_cells_no_spreadsheet_runs() -> None:
    made = as_csv({"token": ["=1+1", "a,b", "é"], "weight": np.array([0.5, -1.0, 0.0])})
    rows = list(csv.reader(io.StringIO(made.decode("utf-8-sig"))))
    assert rows == [["token", "weight"], ["'=1+1", "0.5"], ["a,b", "-1.0"], ["é", "0.0"]]
    assert as_csv(lambda: {"a": [1]}) == "\ufeffa\n1\n".encode()


def test_a_figure_is_made_a_dictionary_once_however_often_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    dictionary: Callable[[BaseFigure], dict[str, Any]] = BaseFigure.to_dict

    def counted(figure: BaseFigure) -> dict[str, Any]:
        made.append(figure)
        return dictionary(figure)

    def script() -> None:
        import plotly.graph_objects as go

        from cahp.ui.parts import chart
        from cahp.ui.parts.once import once

        figure = once(chart, "a figure", lambda: go.Figure(go.Scatter(x=[1, 2], y=[3, 4])))
        chart.show(figure, title="Up", help="A line.", name="line", data={})

    monkeypatch.setattr(BaseFigure, "to_dict", counted)
    for _ in range(2):
        app = AppTest.from_function(script).run()
        assert not app.exception
        assert '"x":[1,2]' in app.get("plotly_chart")[0].proto.spec
    assert len(made) == 1
