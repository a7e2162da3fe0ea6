"""What the card of a head says, without a page."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import on_a_line

from cahp.features.head_cards.measuring import (
    describe_family,
    describe_removal,
    describe_replaceability,
    describe_replacement,
)
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
    ("kept", "shares"),
    [
        ([0, 1, 2], "100 %; most of it group 0 and group 2 (93 %)"),
        ([1, 3], "7 %; most of it group 1 (7 %)"),
        ([3], "0 %; most of it nothing (0 %)"),
    ],
)
def test_the_kept_heads_that_reproduce_most_are_named(found: Replaceability, kept: list[int], shares: str) -> None:
    mask = HeadMask(np.isin(np.arange(4), kept)[None])
    sentence = f"Of what it contributes, the other kept groups of its layer can reproduce {shares}"
    assert describe_replaceability(found, mask, 3, "group") == sentence


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([0, 4], "Kept; its family of 2 keeps 0.0"),
        ([1, 2], "Pruned; its family of 2 keeps 0.1"),
        ([4], "Pruned; its family of 2 keeps none"),
    ],
)
def test_a_card_says_who_of_the_family_is_kept(kept: list[int], words: str) -> None:
    assert describe_family(on_a_line().families, HeadMask.of(kept, 2, 3), 0) == words


def test_the_replacement_has_its_distance() -> None:
    clusters = on_a_line()
    labels, _ = clusters.groups(3)
    said = describe_replacement(clusters, labels, HeadMask.of([0, 2, 4], 2, 3), 0, "head")
    assert said == "Its replacement is layer 0, head 2, the nearest kept head, of another cluster: distance 10.0"
    alone = describe_replacement(clusters, labels, HeadMask.of([0], 2, 3), 0, "head")
    assert alone == "No other head is kept, so none replaces it"


def test_a_removal_says_the_share_of_predictions_that_change() -> None:
    outcomes = {
        "agreement": Estimate(0.98, (0.95, 0.99), 300, "share"),
        "kl": Estimate(0.02, (0.01, 0.03), 300, "nats"),
        "accuracy_change": Estimate(-0.7, (-1.3, 0.0), 300, "points"),
    }
    assert describe_removal(outcomes, "texts") == (
        "2.0 % of predictions change",
        "1.0 to 5.0 %, n = 300 texts; accuracy −0.7 points (−1.3 to 0.0); KL divergence in nats 0.020 (0.010 to 0.030)",
    )
