from __future__ import annotations

import json

import numpy as np
import pytest

from cahp.figures.similarity import attention_figure, habit, matrix
from cahp.values import HeadMask
from cahp.values.head_roles import score_text


def test_attention_shows_the_words_harmless_and_apart_though_equal() -> None:
    figure = attention_figure(["<b>", "the", "the"], np.full((3, 3), 1 / 3))
    assert list(figure.layout.xaxis.ticktext) == ["&lt;b&gt;", "the", "the"]
    assert len(set(figure.data[0].x)) == 3
    assert "<b>" not in json.dumps(figure.to_dict(), default=str)


def test_a_heads_habit_is_where_most_of_its_attention_goes() -> None:
    assert habit(np.eye(4)) == "attends mostly to the token itself (100 % of its attention)"
    assert habit(np.eye(4)[[0, 0, 0, 0]]) == "attends mostly to the first token (100 % of its attention)"
    # Of four tokens three have one before them.
    assert habit(np.eye(4)[[3, 0, 1, 2]]) == "attends mostly to the token before (75 % of its attention)"
    assert habit(np.eye(4)[[2, 2, 2, 0]]) == "attends mostly to one token, token 3 (75 % of its attention)"
    assert habit(np.full((4, 4), 0.25)) == "spreads its attention over the text"


def test_the_share_of_a_role_has_the_definition_of_the_role() -> None:
    # Of four tokens three attend to the first; the first two tokens and the special last one are no queries of a role.
    weights = np.eye(4)[[0, 0, 0, 3]]
    roles = score_text(weights[None, None], np.array([1, 2, 3, 4]), np.array([4]))
    assert habit(weights) == "attends mostly to the first token (75 % of its attention)"
    assert habit(weights, roles, 0) == "attends mostly to the first token (100 % of its attention)"


def test_the_matrix_is_ordered_by_community() -> None:
    apart = np.array([[0, 0.8, 0.2], [0.8, 0, 0.6], [0.2, 0.6, 0]])
    figure, finding = matrix(apart, np.array([0, 1, 0]), HeadMask.of([1], 1, 3), dark=False)
    assert list(figure.data[0].x) == ["layer 0, head 0", "layer 0, head 2", "layer 0, head 1"]
    assert figure.data[0].z[0].tolist() == pytest.approx([0, 0.2, 0.8])
    assert finding == "Mean distance 0.20 within communities, 0.70 between them"
