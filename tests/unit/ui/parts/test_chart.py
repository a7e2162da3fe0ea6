from __future__ import annotations

import csv
import io
import itertools
import json

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.stages.similarity import Change, head_graph
from cahp.ui.parts.chart import (
    CLUSTER_COLOURS,
    NEUTRAL,
    as_csv,
    attention_figure,
    contrast,
    grid_figure,
    head_name,
    hues,
    label,
    letters,
)
from cahp.ui.similarity.figures import among_layers, communities_table, dumbbells, habit, matrix
from cahp.ui.similarity.graph import graph_html
from cahp.values import HeadMask

#: What is left of linear red, green and blue for people without one kind of cone (Machado, Oliveira, Fernandes 2009).
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour: str, blindness: str) -> np.ndarray:
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(BLINDNESS[blindness]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    scaled = np.asarray(to_xyz) @ seen / [0.95047, 1, 1.08883]
    f = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_every_two_cluster_colours_stay_apart_for_the_colour_blind(blindness: str) -> None:
    seen = [lab(colour, blindness) for colour in CLUSTER_COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_the_eight_largest_clusters_get_hues_and_the_rest_is_neutral() -> None:
    labels = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    colours = hues(labels)
    assert colours[:2] == [NEUTRAL, NEUTRAL]
    assert colours[9] == CLUSTER_COLOURS[0]
    assert sorted(colours[2:]) == sorted(CLUSTER_COLOURS)


def test_a_cluster_of_one_head_has_no_hue() -> None:
    assert hues(np.array([0, 1, 1])) == [NEUTRAL, CLUSTER_COLOURS[0]]


def test_clusters_are_named_like_columns_of_a_spreadsheet() -> None:
    assert [letters(index) for index in (0, 25, 26, 27, 701, 702)] == ["A", "Z", "AA", "AB", "ZZ", "AAA"]


def test_a_head_is_named_by_layer_and_place() -> None:
    assert head_name(29, 12) == "layer 2, head 5"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ('<a href="javascript:alert(1)">', '&lt;a href="javascript:ale…'),
        ("a&amp;b", "a&amp;amp;b"),
        ("$x$", "＄x＄"),
        ("a\u202eb\x00c", "a·b·c"),
        ("😀 مرحبا", "😀 مرحبا"),
        ("", ""),
    ],
)
def test_what_a_person_typed_is_no_markup_in_a_label(typed: str, shown: str) -> None:
    assert label(typed) == shown


def test_long_words_are_shortened() -> None:
    assert label("a" * 100) == "a" * 23 + "…"
    assert len(label("a" * 100_000, limit=10)) == 10


def test_text_is_black_or_white_whichever_is_easier_to_read() -> None:
    assert [contrast(colour) for colour in ("#ffffff", "#000000", "#E69F00", "#0072B2")] == [
        "#000000",
        "#ffffff",
        "#000000",
        "#ffffff",
    ]


def test_survivors_are_solid_and_pruned_heads_hollow_whatever_their_colour() -> None:
    mask = HeadMask.of([0, 5], 2, 3)
    figure = grid_figure(mask, np.array([0, 0, 1, 1, 2, 2]), selected=4)
    solid, hollow = figure.data[:2]
    assert (solid.marker.symbol, list(solid.customdata)) == ("square", [0, 5])
    assert (hollow.marker.symbol, list(hollow.customdata)) == ("square-open", [1, 2, 3, 4])
    assert list(solid.x) == [0, 2]
    assert list(solid.y) == [0, 1]
    assert solid.hovertext[1] == "<b>layer 1, head 2</b><br>kept<br>cluster C"
    assert list(figure.data[2].customdata) == [4]
    assert figure.layout.xaxis.title.text == "Head"


def test_a_grid_of_many_heads_fits_the_page() -> None:
    figure = grid_figure(HeadMask.full(32, 32), np.arange(1024) % 20)
    assert figure.layout.height < 720
    assert figure.data[0].marker.size < 560 / 32


def test_attention_shows_the_words_harmless_and_apart_though_equal() -> None:
    figure = attention_figure(["<b>", "the", "the"], np.full((3, 3), 1 / 3))
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "the", "the"]
    assert len(set(figure.data[0].x)) == 3
    assert "<b>" not in json.dumps(figure.to_dict(), default=str)


def test_a_table_is_utf8_csv_whose_cells_no_spreadsheet_runs() -> None:
    made = as_csv({"token": ["=1+1", "a,b", "é"], "weight": np.array([0.5, -1.0, 0.0])})
    rows = list(csv.reader(io.StringIO(made.decode("utf-8-sig"))))
    assert rows == [["token", "weight"], ["'=1+1", "0.5"], ["a,b", "-1.0"], ["é", "0.0"]]
    assert as_csv(lambda: {"a": [1]}) == "\ufeffa\n1\n".encode()


@pytest.fixture(scope="module")
def document() -> str:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 2))
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    return graph_html(head_graph(apart / apart.max(), threshold=0.7), HeadMask.of([0, 1, 7], 2, 6), dark=True)


def test_the_graph_names_no_address(document: str) -> None:
    assert "http" not in document.lower().replace("http-equiv", "")
    assert "<link" not in document
    assert "src=" not in document.partition("<script")[0]


def test_the_graph_may_load_nothing(document: str) -> None:
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
    assert f'content="{policy}"' in document
    assert document.index(policy) < document.index("<script")


def test_the_graphs_nodes_are_numbers_with_fixed_places(document: str) -> None:
    start = document.index("nodes = new vis.DataSet(") + len("nodes = new vis.DataSet(")
    nodes = json.JSONDecoder().raw_decode(document[start:])[0]
    assert [node["id"] for node in nodes] == list(range(12))
    assert all({"x", "y"} <= set(node) for node in nodes)
    assert nodes[7]["title"].startswith("layer 1, head 1, community ")
    assert nodes[7]["title"].endswith(", kept")
    assert '"physics": {\n        "enabled": false' in document


def test_a_heads_habit_is_where_most_of_its_attention_goes() -> None:
    assert habit(np.eye(4)) == "looks mostly at the token itself (100% of its attention)"
    assert habit(np.eye(4)[[0, 0, 0, 0]]) == "looks mostly at the first token (100% of its attention)"
    # Of four tokens three have one before them.
    assert habit(np.eye(4)[[3, 0, 1, 2]]) == "looks mostly at the token before (75% of its attention)"
    assert habit(np.full((4, 4), 0.25)) == "spreads its attention over the text"


def test_the_layer_that_is_most_like_a_head_is_named_without_the_head_itself() -> None:
    apart = np.array([[0, 0.9, 0.2, 0.3], [0.9, 0, 1, 1], [0.2, 1, 0, 1], [0.3, 1, 1, 0]], dtype=float)
    figure, finding = among_layers(apart, HeadMask.of([2], 2, 2), 0, dark=False)
    assert finding == "Most like the heads of layer 1: mean distance 0.25"
    assert [list(trace.customdata) for trace in figure.data] == [[2], [1, 3], [0]]


def test_the_matrix_is_ordered_by_community_and_marks_the_kept_heads() -> None:
    apart = np.array([[0, 0.8, 0.2], [0.8, 0, 0.6], [0.2, 0.6, 0]])
    figure, finding = matrix(apart, np.array([0, 1, 0]), HeadMask.of([1], 1, 3), dark=False)
    assert list(figure.data[0].x) == ["layer 0, head 0", "layer 0, head 2", "layer 0, head 1"]
    assert figure.data[0].z[0].tolist() == pytest.approx([0, 0.2, 0.8])
    assert list(figure.data[1].customdata) == [1]
    assert finding == "Heads of one community are 0.20 apart on average, others 0.70"


def test_the_pair_that_changed_most_is_told_in_words() -> None:
    _, finding = dumbbells([Change(0, 3, 0.9, 0.1)], ("Text 1", "Text 2"), heads=2, dark=False)
    assert finding == "Layer 0, head 0 and layer 1, head 1 are 0.10 apart on Text 2, but 0.90 on Text 1"


def test_communities_are_counted_with_what_is_kept_of_them() -> None:
    table = communities_table(np.array([0, 0, 1, 2]), HeadMask.of([1, 3], 2, 2))
    assert table == {"Community": ["A", "B", "C"], "Heads": [2, 1, 1], "Kept": [1, 0, 1]}
