"""The words of a text, and the attention between them."""

from __future__ import annotations

import re

import numpy as np

from cahp.features.own_text.measuring import read_maps
from cahp.models.head_model import HeadModel
from cahp.stages.similarity import Arc, attend, find_arcs, find_words


def test_sub_words_are_joined_and_punctuation_belongs_to_no_word() -> None:
    # [CLS] | un | believ | able | , | it | 's | [SEP], the last of two words cut off.
    spans = [(0, 0), (0, 2), (2, 8), (8, 12), (12, 13), (14, 16), (16, 18), (0, 0)]
    words, groups = find_words("Unbelievable, it's gone", spans)
    assert words == ["Unbelievable", "it's"]
    assert groups.tolist() == [-1, 0, 0, 0, -1, 1, 1, -1]


def test_a_script_without_spaces_is_read_character_by_character() -> None:
    for text in ("नमस्ते दुनिया", "e\u0301te\u0301 a", "שָׁלוֹם עולם"):
        spans = [word.span() for word in re.finditer(r"\S+", text)]
        assert find_words(text, spans)[0] == text.split()
    words, groups = find_words("東京。", [(0, 1), (1, 2), (2, 3)])
    assert words == ["東", "京"]
    assert groups.tolist() == [0, 1, -1]


def test_a_head_has_at_most_two_arcs_between_different_words_and_none_where_it_is_weak() -> None:
    first = [[0.9, 0.1, 0.0], [0.2, 0.1, 0.7], [0.5, 0.5, 0.0]]
    second = [[0.9, 0.16, 0.0], [0.1, 0.9, 0.0], [0.0, 0.1, 0.9]]
    assert find_arcs(np.array(first), most=2, least=0.16) == (Arc(1, 2, 0.7), Arc(2, 0, 0.5))
    assert find_arcs(np.array(second), most=2, least=0.16) == ()


def test_words_of_a_model_have_the_attention_of_its_tokens(model: HeadModel) -> None:
    maps = read_maps(model, "The film was, great")
    assert maps.words == ("The", "film", "was", "great")
    tokens = attend(model, "The film was, great").by_head
    # [CLS] the film was , great [SEP]: each word is one token.
    own = np.delete(np.delete(tokens, [0, 4, 6], axis=1), [0, 4, 6], axis=2)
    assert maps.arcs == tuple(find_arcs(head, most=2, least=0.16) for head in own)
    assert maps.length == 4
    own[:, range(4), range(4)] = 0
    assert maps.looks[0].tolist() == (255 * own[0].max(axis=0)).round().astype(int).tolist()
