from __future__ import annotations

import numpy as np
import pytest

from cahp.features.own_text import figure as figures
from cahp.features.own_text.measuring import AnswersOverBudgets, TextReading
from cahp.features.own_text.panel import _describe_attention

NAMES = {0: "<b>no</b>", 1: "yes", 2: "so $x$"}


def reading(attention: list[float], probabilities: tuple[float, ...] = (0.7, 0.2, 0.1)) -> TextReading:
    words = ("[CLS]", *(f"w{place}" for place in range(len(attention) - 2)), "[SEP]")
    special = np.array([word.startswith("[") for word in words])
    return TextReading(np.array(probabilities), words, special, np.array(attention), 0)


def test_models_are_told_apart_by_their_signs_and_names_of_classes_are_no_markup() -> None:
    models = {
        "all": reading([1.0, 0.0], (0.7, 0.2, 0.1)),
        "pruned": reading([1.0, 0.0], (0.3, 0.1, 0.6)),
        "refit": reading([1.0, 0.0], (0.5, 0.3, 0.2)),
    }
    figure = figures.probabilities_figure(models, NAMES, dark=False)
    assert [trace.marker.symbol for trace in figure.data] == ["circle-open", "square", "diamond"]
    # The likeliest of the full model is on top.
    assert list(figure.data[1].x) == pytest.approx([30, 10, 60])
    assert list(figure.layout.yaxis.ticktext) == ["&lt;b&gt;no&lt;/b&gt;", "yes", "so ＄x＄"]


def test_of_many_classes_those_stay_that_any_model_finds_likely() -> None:
    full, pruned = np.linspace(0.1, 0.0, 12), np.zeros(12)
    pruned[11] = 1.0
    assert figures.likeliest([full, pruned]) == [*range(7), 11]


def test_the_words_that_get_most_are_named_and_special_tokens_are_none() -> None:
    sentence = _describe_attention(reading([0.5, 0.0, 0.1, 0.2, 0.2]), "group")
    assert sentence.startswith("The kept groups attend most to “w2” (20.0 %), “w1” (10.0 %), “w0” (0.0 %), averaged")
    assert sentence.endswith("70 % goes to special tokens")


def test_the_curves_of_classes_differ_in_dash_and_the_board_is_marked() -> None:
    found = AnswersOverBudgets((2, 4), np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]]))
    figure = figures.over_budgets_figure(found, NAMES, 3, unit="group", dark=False)
    assert figure.layout.xaxis.title.text == "groups kept"
    assert len({trace.line.dash for trace in figure.data}) == 3
    assert figure.layout.shapes[0].x0 == 3
