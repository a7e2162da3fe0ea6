"""What several methods share: texts that are drawn, gradients, removal in rounds."""

from pathlib import Path

import fakes
import numpy as np
import pytest
from fakes import gather

from cahp.methods.shared.scored import draw_texts, normalise_layers, round_sizes
from cahp.models.head_model import HeadModel
from cahp.tasks.texts import Texts


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
def test_rounds_remove_a_share_and_at_last_the_rest(total: int, budget: int, share: float, sizes: list[int]) -> None:
    assert round_sizes(total, budget, share=share) == sizes


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
