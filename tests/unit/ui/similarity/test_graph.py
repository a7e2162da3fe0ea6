import json
from typing import Any

import numpy as np
import pytest
from colours import contrast_ratio

from cahp.stages.similarity import head_graph
from cahp.ui.similarity.graph import graph_html
from cahp.values import HeadMask


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
