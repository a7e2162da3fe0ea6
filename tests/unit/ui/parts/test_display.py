"""Charts, escaped words, cached drawings and the steps of a recovery."""

from __future__ import annotations

import csv
import gc
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from plotly.basedatatypes import BaseFigure
from streamlit.testing.v1 import AppTest

from cahp.ui.parts import display
from cahp.ui.parts.display import as_csv, cache_with, plain


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

        from cahp.ui.parts import display
        from cahp.ui.parts.display import cache_with

        figure = cache_with(display, "a figure", lambda: go.Figure(go.Scatter(x=[1, 2], y=[3, 4])))
        display.show(figure, title="Up", help="A line.", name="line", data={})

    monkeypatch.setattr(BaseFigure, "to_dict", counted)
    for _ in range(2):
        app = AppTest.from_function(script).run()
        assert not app.exception
        assert '"x":[1,2]' in app.get("plotly_chart")[0].proto.spec
    assert len(made) == 1


class Thing:
    """Something that can be drawn."""


def test_fifty_concurrent_calls_draw_once() -> None:
    thing, made, together = Thing(), list[object](), threading.Barrier(50)

    def draw() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        together.wait(10)
        return cache_with(thing, "a drawing", draw)

    with ThreadPoolExecutor(50) as people:
        seen = set(people.map(ask, range(50)))
    assert len(made) == 1
    assert seen == set(made)


def test_a_drawing_goes_with_what_it_was_drawn_of() -> None:
    kept = len(display._cached)
    thing = Thing()
    cache_with(thing, "a drawing", object)
    assert len(display._cached) == kept + 1
    del thing
    gc.collect()
    assert len(display._cached) == kept


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("[x](http://a) ![y](b)", r"\[x\]\(http\://a\) \!\[y\]\(b\)"),
        ("<b>:smile:</b> $x$", r"\<b\>\:smile\:\</b\> \$x\$"),
        ("one\n# two\n\n- three", r"one \# two \- three"),
        ("all right", "all right"),
    ],
)
def test_what_a_person_typed_is_no_markup_in_a_sentence(typed: str, shown: str) -> None:
    assert plain(typed) == shown


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    line = display.bind_units("89.1 % (85 to 92) of 12 texts, 0.3 nats")
    assert line == "89.1\u00a0% (85 to 92) of 12 texts, 0.3\u00a0nats"
