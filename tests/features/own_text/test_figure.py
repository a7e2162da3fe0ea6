from __future__ import annotations

import numpy as np
import pytest

from cahp.features.own_text.measuring import likeliest
from cahp.features.own_text.panel import probabilities_figure


def test_models_are_told_apart_by_their_signs_and_names_of_classes_are_no_markup() -> None:
    models = {"all": [0.7, 0.2, 0.1], "pruned": [0.3, 0.1, 0.6], "refit": [0.5, 0.3, 0.2]}
    figure = probabilities_figure(models, ["<b>no</b>", "yes", "so $x$"], of="class", dark=False)
    assert [trace.marker.symbol for trace in figure.data] == ["circle-open", "square", "diamond"]
    # The likeliest of the full model is on top.
    assert list(figure.data[1].x) == pytest.approx([30, 10, 60])
    assert list(figure.layout.yaxis.ticktext) == ["&lt;b&gt;no&lt;/b&gt;", "yes", "so ＄x＄"]


def test_of_many_classes_those_stay_that_any_model_finds_likely() -> None:
    pruned = np.zeros(12)
    pruned[11] = 1.0
    assert likeliest([np.linspace(0.1, 0.0, 12), pruned]) == [*range(7), 11]
