from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("plotly", reason="what draws figures is not installed")

from cahp.figures.similarity import attention_figure, graph_figure, habit, matrix
from cahp.stages.similarity import head_graph
from cahp.values import HeadMask


def test_attention_shows_the_words_harmless_and_apart_though_equal() -> None:
    figure = attention_figure(["<b>", "the", "the"], np.full((3, 3), 1 / 3))
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "the", "the"]
    assert len(set(figure.data[0].x)) == 3
    assert "<b>" not in json.dumps(figure.to_dict(), default=str)


def test_a_heads_habit_is_where_most_of_its_attention_goes() -> None:
    assert habit(np.eye(4)) == "attends mostly to the token itself (100% of its attention)"
    assert habit(np.eye(4)[[0, 0, 0, 0]]) == "attends mostly to the first token (100% of its attention)"
    # Of four tokens three have one before them.
    assert habit(np.eye(4)[[3, 0, 1, 2]]) == "attends mostly to the token before (75% of its attention)"
    assert habit(np.full((4, 4), 0.25)) == "spreads its attention over the text"


def test_the_graph_has_a_number_beside_a_head_of_each_community_and_frames_the_selected_head() -> None:
    points = np.random.default_rng(0).normal(size=(12, 2))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    graph = head_graph(apart / apart.max(), threshold=0.7)
    figure = graph_figure(graph, HeadMask.of([0, 1, 7], 2, 6), selected=7, dark=True)
    traces = {trace.name: trace for trace in figure.data if trace.name and trace.customdata is not None}
    assert traces["kept"].customdata.tolist() == [0, 1, 7]
    assert traces["kept"].hovertext[2] == f"layer 1, head 1<br>kept, community {graph.communities[7] + 1}"
    alike, chosen = (trace for trace in figure.data if trace.marker.symbol == "circle-open" and not trace.name)
    assert alike.customdata.tolist() == np.flatnonzero(graph.communities == graph.communities[7]).tolist()
    assert chosen.customdata.tolist() == [7]
    (signs,) = (trace for trace in figure.data if trace.mode == "text")
    assert list(signs.text) == [str(group + 1) for group in range(graph.communities.max() + 1)]
    for group, place in enumerate(zip(signs.x, -np.array(signs.y), strict=True)):
        distances = np.linalg.norm(graph.positions - place, axis=1)
        assert graph.communities[int(np.argmin(distances))] == group
        assert distances.min() > 0.06


def test_the_matrix_is_ordered_by_community_and_marks_the_kept_heads() -> None:
    apart = np.array([[0, 0.8, 0.2], [0.8, 0, 0.6], [0.2, 0.6, 0]])
    figure, finding = matrix(apart, np.array([0, 1, 0]), HeadMask.of([1], 1, 3), dark=False)
    assert list(figure.data[0].x) == ["layer 0, head 0", "layer 0, head 2", "layer 0, head 1"]
    assert figure.data[0].z[0].tolist() == pytest.approx([0, 0.2, 0.8])
    assert list(figure.data[1].customdata) == [1]
    assert finding == "Mean distance 0.20 within communities, 0.70 between them"
