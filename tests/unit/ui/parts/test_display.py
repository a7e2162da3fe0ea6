"""Escaped words and cached drawings."""

import csv
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cahp.ui.parts.display import as_csv, cache_with, plain


def test_a_table_is_utf8_csv_whose_cells_no_spreadsheet_runs() -> None:
    made = as_csv({"token": ["=1+1", "a,b", "é"], "weight": np.array([0.5, -1.0, 0.0])})
    rows = list(csv.reader(io.StringIO(made.decode("utf-8-sig"))))
    assert rows == [["token", "weight"], ["'=1+1", "0.5"], ["a,b", "-1.0"], ["é", "0.0"]]
    assert as_csv(lambda: {"a": [1]}) == "\ufeffa\n1\n".encode()


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
