"""What the card of a head says, without a page."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import on_a_line

from cahp.features.head_cards.measuring import Surroundings, describe_removal, describe_replaceability
from cahp.stages.replacement import Replaceability
from cahp.values import Estimate, HeadMask
from cahp.values.statistics import Moments


@pytest.fixture
def found() -> Replaceability:
    """Of one layer whose head 3 is three times head 0, once head 1 and twice head 2."""
    mixing = np.vstack([np.eye(3), [3.0, 1.0, 2.0]])
    gram = (mixing @ mixing.T)[None].astype(np.float32)
    return Replaceability(
        Moments(gram, np.eye(4, dtype=np.float32)[None], np.eye(4)[None], heads=4, tokens=100), ridge=1e-9
    )


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (
            [0, 1, 2],
            "**Heads 0 and 2 of this layer can reproduce 93 % of what it contributes;** all 3 other kept heads of the "
            "layer 100 %.",
        ),
        ([1, 2, 3], "**Heads 1 and 2 of this layer can reproduce 36 % of what it contributes.**"),
        ([1], "**Head 1 of this layer can reproduce 7 % of what it contributes.**"),
        ([3], "No other head of its layer is kept, so none can reproduce what it contributes."),
    ],
)
def test_the_kept_heads_that_reproduce_most_are_named(found: Replaceability, kept: list[int], sentence: str) -> None:
    mask = HeadMask(np.isin(np.arange(4), kept)[None])
    assert describe_replaceability(found, mask, 3, "head") == sentence
    grouped = sentence.replace("Head", "Group").replace("head", "group")
    assert describe_replaceability(found, mask, 3, "group") == grouped


def test_a_head_without_effect_needs_no_replacement() -> None:
    still = np.zeros((1, 2, 2), dtype=np.float32)
    found = Replaceability(Moments(still, still, np.zeros((1, 2, 2)), heads=2, tokens=100))
    assert "no effect" in describe_replaceability(found, HeadMask.full(1, 2), 0, "head")


def surroundings(head: int, kept: list[int]) -> Surroundings:
    """A head of two layers of three heads on a line; see ``clusters.on_a_line``."""
    clusters = on_a_line()
    return Surroundings(clusters, clusters.groups(3)[0], HeadMask.of(kept, 2, 3), head, "head")


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([0, 4], "The one kept of a family of two"),
        ([0, 1], "Kept, of its family of two also 0.1"),
        ([1, 2], "Pruned; its family of two keeps 0.1"),
        ([4], "Pruned, as are all of its family of two"),
    ],
)
def test_a_card_says_who_of_the_family_is_kept(kept: list[int], words: str) -> None:
    assert surroundings(0, kept).describe_family() == words


def test_nearest_heads_and_replacement_have_their_distances() -> None:
    known = surroundings(0, [0, 2, 4])
    assert known.find_nearest() == [(1, 1.0), (2, 10.0), (3, 11.0)]
    assert known.describe_replacement() == (
        "Its replacement is layer 0, head 2, of another cluster, as no other head of its own is kept: distance 10.0, "
        "median of all pairs 10.0"
    )
    assert surroundings(0, [0]).describe_replacement() == "No other head is kept, so none replaces it"


def test_a_removal_counts_answers_or_says_the_share_of_next_words() -> None:
    outcomes = {
        "agreement": Estimate(0.98, (0.95, 0.99), 300, "share"),
        "kl": Estimate(0.02, (0.01, 0.03), 300, "nats"),
        "accuracy_change": Estimate(-0.7, (-1.3, 0.0), 300, "points"),
    }
    assert describe_removal(outcomes, answers=True) == (
        "6 of 300 answers change",
        "accuracy −0.7 points (−1.3 to 0.0); KL divergence 0.020 nats (0.010 to 0.030)",
    )
    del outcomes["accuracy_change"]
    assert describe_removal(outcomes, answers=False, units="documents") == (
        "2.0 % of next words change",
        "1.0 to 5.0, n = 300 documents; KL divergence 0.020 nats (0.010 to 0.030)",
    )
