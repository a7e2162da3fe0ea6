"""Escaped words, cached drawings, and the graph of heads that are alike."""

import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from colours import contrast_ratio

from cahp.stages.similarity import head_graph
from cahp.ui.parts.display import as_csv, cache_with, plain
from cahp.ui.similarity.graph import graph_html
from cahp.values import HeadMask


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


@pytest.fixture(scope="module")
def document() -> str:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 2))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    return graph_html(head_graph(apart / apart.max(), threshold=0.7), HeadMask.of([0, 1, 7], 2, 6), dark=True)


def nodes_of(document: str) -> list[dict[str, Any]]:
    start = document.index("nodes = new vis.DataSet(") + len("nodes = new vis.DataSet(")
    nodes: list[dict[str, Any]] = json.JSONDecoder().raw_decode(document[start:])[0]
    return nodes


def test_the_graph_may_load_nothing(document: str) -> None:
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
    assert f'content="{policy}"' in document
    assert document.index(policy) < document.index("<script")


@pytest.mark.parametrize("dark", [False, True])
def test_names_of_heads_are_readable_on_their_nodes(dark: bool) -> None:
    # Eight communities of three heads, so that every colour occurs, kept and pruned.
    groups = np.repeat(np.arange(8), 3)
    apart = np.where(groups[:, None] == groups, 0.1, 0.9) * (1 - np.eye(24))
    page = graph_html(head_graph(apart, threshold=0.5), HeadMask.of(range(0, 24, 3), 4, 6), dark=dark)
    nodes = nodes_of(page)
    assert len({node["community"] for node in nodes}) == 8
    for node in nodes:
        assert contrast_ratio(node["font"]["color"], node["color"]["background"]) >= 4.5, node
