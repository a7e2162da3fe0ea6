from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("plotly", reason="what draws figures is not installed")

from cahp.figures.attention_map import attention_figure


def test_attention_shows_the_words_harmless_and_apart_though_equal() -> None:
    figure = attention_figure(["<b>", "the", "the"], np.full((3, 3), 1 / 3))
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "the", "the"]
    assert len(set(figure.data[0].x)) == 3
    assert "<b>" not in json.dumps(figure.to_dict(), default=str)
