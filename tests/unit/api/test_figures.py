"""The figures that Python draws: what stands on the pages, with the numbers of the command line."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("plotly", reason="what draws figures is not installed")

import cahp
from cahp.stages.similarity import head_graph, suggest_threshold

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "w1 w2 w3 w4 w5"


@pytest.fixture(scope="module")
def seen(run: cahp.PruneResult) -> cahp.SimilarityResult:
    return run.similarity(TEXT)


def test_heads_and_their_space_are_drawn_from_the_run_alone(run: cahp.PruneResult) -> None:
    figure = run.plot("heads", dark=True)
    assert sorted(figure.data[0].customdata) == run.mask.flat
    assert figure.layout.title.text == "5 of 12 heads kept"
    assert len(run.plot("space").data[0].x) == 5
    assert list(run.plot("silhouette").data[0].x) == run.arrays["ks"].tolist()


def test_accuracy_by_budget_is_that_of_such_a_run(run: cahp.PruneResult, asked: dict[str, Any], store: Any) -> None:
    told: list[tuple[str, int, int]] = []
    figure = run.plot("accuracy", budgets=[5, 8, 12], progress=lambda *said: told.append(said))
    curve = figure.data[0]
    assert list(curve.x) == [5, 8, 12]
    assert ("table", 0, 3) in told
    other = cahp.prune(**asked, budget=8, recover="refit", store=store)
    states = (run.outcomes["recovered"], other.outcomes["recovered"], run.outcomes["full"])
    expected = [outcomes["accuracy"] for outcomes in states]
    assert list(curve.y) == pytest.approx([100 * accuracy.value for accuracy in expected])
    low, high = expected[1].low, expected[1].high
    assert (curve.error_y.arrayminus[1], curve.error_y.array[1]) == pytest.approx(
        (curve.y[1] - 100 * low, 100 * high - curve.y[1])
    )
    assert len(run.plot("accuracy", progress=False).data[0].x) >= 9
    divergence = run.plot("kl", budgets=[8, 12], progress=False)
    assert list(divergence.data[0].y) == pytest.approx([other.outcomes["recovered"]["kl"].value, 0.0])
    assert divergence.layout.title.text.startswith("KL divergence from the full model on validation (refitted)")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("heatmap", {}, "there is no figure 'heatmap'; choose one of heads, "),
        ("accuracy", {"budgets": [5, 13]}, "budget 13 is outside 3 to 12"),
        ("similarity", {}, "depends on a text; give one"),
    ],
)
def test_other_figures_are_refused(run: cahp.PruneResult, name: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(cahp.CahpError, match=sentence):
        run.plot(name, **options)


def test_without_plotly(run: cahp.PruneResult, seen: cahp.SimilarityResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cahp.api.figures.find_spec", lambda name: None)
    with pytest.raises(cahp.CahpError, match=r"install it with pip install \"cahp-explorer\[notebook\]\""):
        run.plot("heads")
    assert seen.graph()._repr_mimebundle_() == {"text/plain": repr(seen.graph())}


def test_a_text_is_seen_as_the_similarity_page_sees_it(run: cahp.PruneResult, seen: cahp.SimilarityResult) -> None:
    assert seen.weights.shape[:2] == (3, 4)
    assert seen.distances.shape == (12, 12)
    assert seen.mask is run.mask
    graph = seen.graph()
    same = head_graph(seen.distances, threshold=suggest_threshold(seen.distances))
    assert np.array_equal(graph.edges, same.edges)
    assert np.array_equal(graph.communities, same.communities)
    assert len(seen.graph(1.0).edges) == 11
    network = graph.to_networkx()
    assert network.nodes[11] == {"layer": 2, "head": 3, "community": graph.communities[11], "kept": run.mask.keep[2, 3]}
    assert [network.edges[tuple(edge)]["similarity"] for edge in graph.edges.tolist()] == graph.similarity.tolist()


def test_one_heads_attention_and_its_likes(seen: cahp.SimilarityResult) -> None:
    pattern = seen.attention(2, 1)
    assert pattern.weights.shape == (len(seen.tokens),) * 2
    assert np.allclose(pattern.weights.sum(axis=1), 1, atol=1e-5)
    assert repr(pattern) == f"Layer 2, head 1 on a text of {len(seen.tokens)} tokens"
    assert (2, 1) not in [(layer, head) for layer, head, _ in seen.nearest(2, 1)]
    for place in ((3, 0), (0, 4), (-1, 0)):
        with pytest.raises(cahp.CahpError, match=r"layers are 0\.\.2 and heads 0\.\.3"):
            seen.attention(*place)


def test_a_text_of_a_users_own_never_becomes_markup(run: cahp.PruneResult) -> None:
    shown = run.similarity("<b>x</b> <script>alert(1)</script>").attention(0, 0).plot()
    assert "<script" not in shown.to_json()
    assert "<b>" not in shown.to_json()


def test_a_mask_of_another_model_and_what_is_no_text_are_refused(model: Any) -> None:
    loaded = cahp.load(str(model), device="cpu")
    assert cahp.similarity(loaded, TEXT, mask=np.eye(3, 4, dtype=bool)).mask.count == 3
    for texts in (["a text", "another"], 3, ("a pair", 3), ("a", "b", "c")):
        with pytest.raises(cahp.CahpError, match="give one at a time"):
            cahp.similarity(loaded, texts)  # type: ignore[arg-type]
    with pytest.raises(cahp.CahpError, match="The mask is for 2 x 2 heads"):
        cahp.similarity(loaded, TEXT, mask=cahp.HeadMask.full(2, 2))
    with pytest.raises(cahp.CahpError, match="has no tokens"):
        cahp.similarity(loaded, "  ")
