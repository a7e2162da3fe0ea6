"""What several methods share: texts that are drawn, gradients, removal in rounds."""

from __future__ import annotations

from pathlib import Path

import fakes
import numpy as np
import pytest
from fakes import gather
from hypothesis import given
from hypothesis import strategies as st

from cahp.methods.shared.scored import Eliminating, draw_texts, normalise_layers, round_sizes
from cahp.models.head_model import HeadModel
from cahp.tasks.texts import Texts
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEADS = 3, 4
TOTAL = LAYERS * HEADS


@pytest.mark.parametrize(
    ("total", "budget", "share", "sizes"),
    [
        (72, 20, 0.1, [65, 58, 51, 44, 37, 30, 23, 20]),
        (144, 116, 0.1, [130, 116]),
        (72, 63, 0.05, [68, 64, 63]),
        (12, 10, 0.05, [11, 10]),
        (12, 12, 0.1, []),
    ],
)
def test_rounds_remove_a_share_of_all_heads_and_the_last_what_is_left(
    total: int, budget: int, share: float, sizes: list[int]
) -> None:
    assert round_sizes(total, budget, share=share) == sizes


@given(st.integers(0, 1000), st.integers(0, 4), st.data())
def test_elimination_removes_the_lowest_that_the_floor_lets_go(seed: int, floor: int, data: st.DataObject) -> None:
    budget = data.draw(st.integers(max(1, floor * LAYERS), TOTAL))
    scores = np.random.default_rng(seed).random((TOTAL + 1, LAYERS, HEADS))
    asked: list[HeadMask] = []

    class Method(Eliminating):
        share = 1 / TOTAL

        def score_under(self, evidence: object, mask: HeadMask, progress: object) -> np.ndarray:
            asked.append(mask)
            return scores[mask.count]

    class Card:
        layers, heads = LAYERS, HEADS

    class Nothing:
        card, progress = Card, None

    found = Method().choose(Nothing, budget=budget, min_per_layer=floor)  # type: ignore[arg-type]
    keep = np.ones((LAYERS, HEADS), dtype=np.bool_)
    while keep.sum() > budget:
        may_go = [place for place in zip(*np.nonzero(keep), strict=True) if keep[place[0]].sum() > floor]
        now = scores[keep.sum()]
        keep[min(may_go, key=lambda place: now[place])] = False
    assert found.mask.keep.tolist() == keep.tolist()
    assert [mask.count for mask in asked] == list(range(TOTAL, budget, -1))


def test_texts_are_drawn_by_the_seed_and_stay_in_order(model: HeadModel, tmp_path: Path) -> None:
    texts = fakes.sentences(60)
    assert draw_texts(gather(model, texts, tmp_path), most=60) is texts
    numbered = Texts(tuple(map(str, range(60))), None, texts.labels, texts.classes)

    def rows(seed: int) -> list[int]:
        return [int(text) for text in draw_texts(gather(model, numbered, tmp_path, seed=seed), most=20).first]

    assert rows(1) == sorted(set(rows(1)))
    assert len(rows(1)) == 20
    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


def test_a_layer_of_zeros_stays_zero_when_scaled() -> None:
    assert normalise_layers(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]
