"""The sentences of a card, and the removal of one head."""

from __future__ import annotations

import numpy as np
import pytest

from cahp.api import bundled
from cahp.features.head_cards.measuring import (
    SENTENCES,
    Arc,
    exceed_family,
    find_arcs,
    find_examples,
    find_words,
    measure_removal,
    measure_removals,
    read_cards,
)
from cahp.run.bench import Bench


@pytest.mark.parametrize(
    ("sentence", "tokens", "words"),
    [
        ("The club's end.", ("[CLS]", "the", "club", "'", "s", "end", ".", "[SEP]"), [-1, 0, 1, 1, 1, 2, 2, -1]),
        ("One owner", ("One", "own", "er"), [0, 1, 1]),
        ("one owner", ("[CLS]", "one", "own", "##er", "[SEP]"), [-1, 0, 1, 1, -1]),
        # In a prompt whose words are no part of the sentence.
        ("so good", ("it", "was", "so", "good", "?"), [-1, -1, 0, 1, -1]),
        ("so odd", ("[CLS]", "so", "[UNK]", "[SEP]"), None),
    ],
)
def test_tokens_belong_to_the_words_that_they_spell(
    sentence: str, tokens: tuple[str, ...], words: list[int] | None
) -> None:
    found = find_words(sentence, tokens)
    assert (None if found is None else found.tolist()) == words


def test_a_head_is_compared_with_the_rest_of_its_family_or_else_with_all_others() -> None:
    to_second = np.array([[0.0, 1.0], [1.0, 0.0]])
    to_itself = np.eye(2)
    maps = np.stack([to_second, to_itself, to_itself])
    more = exceed_family(maps, np.array([0, 0, 1]))
    np.testing.assert_allclose(more[0], to_second)
    # What a word gives to itself is no difference.
    np.testing.assert_allclose(more[1], 0)
    np.testing.assert_allclose(exceed_family(maps, np.array([0, 1, 2]))[0], to_second)
    arcs = find_arcs(maps[0], np.array([[0.0, 0.04], [0.3, 0.0]]))
    assert arcs == (Arc(1, 0, 1.0),)


def test_the_sentences_of_a_head_have_the_largest_shares_first_and_unknown_ones_are_left_out(
    small_bench: Bench,
) -> None:
    sentences = ("good film the plot", "zebra", "bad cast the song", "fine story the end", "dull scene a dark")
    examples = find_examples(small_bench.model, np.zeros(12, dtype=np.int64), sentences=sentences)
    assert len(examples) == 12
    for rows in examples:
        shares = [row.share for row in rows]
        assert len(rows) == 3
        assert shares == sorted(shares, reverse=True)
        assert 1 not in {row.text for row in rows}
    assert find_examples(small_bench.model, np.zeros(12, dtype=np.int64), sentences=("zebra",)) == ((),) * 12


def test_all_removals_are_those_of_single_heads(small_bench: Bench) -> None:
    removals = measure_removals(small_bench)
    assert len(removals) == 12
    assert removals[5]["agreement"] == measure_removal(small_bench, 5)["agreement"]


@pytest.mark.parametrize("name", bundled.RUNS)
def test_bundled_cards_are_of_all_heads_of_their_model(name: str) -> None:
    run = bundled.read_run(name)
    cards = read_cards(bundled.run_folder(name))
    assert run is not None
    assert cards is not None
    heads = run.document.model.layers * run.document.model.heads
    assert len(cards.examples) == heads
    assert len(cards.removals) in (0, heads)
    for example in (row for rows in cards.examples for row in rows):
        words = SENTENCES[example.text].split()
        assert all(max(arc.source, arc.target) < len(words) for arc in example.arcs)
