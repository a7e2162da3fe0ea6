"""The sentences of a card, and the removal of one head."""

from __future__ import annotations

import numpy as np
import pytest

from cahp.api import bundled
from cahp.features.head_cards.measuring import (
    SENTENCES,
    exceed_family,
    find_examples,
    measure_removal,
    stored_examples,
    stored_removals,
)
from cahp.run.bench import Bench
from cahp.ui.session.opening import Source


def test_a_head_is_compared_with_the_rest_of_its_family_or_else_with_all_others() -> None:
    to_second = np.array([[0.0, 1.0], [1.0, 0.0]])
    to_itself = np.eye(2)
    maps = np.stack([to_second, to_itself, to_itself])
    more = exceed_family(maps, np.array([0, 0, 1]))
    np.testing.assert_allclose(more[0], to_second)
    # What a word gives to itself is no difference.
    np.testing.assert_allclose(more[1], 0)
    np.testing.assert_allclose(exceed_family(maps, np.array([0, 1, 2]))[0], to_second)


def test_the_sentences_of_a_head_have_the_largest_shares_first_and_those_with_other_words_are_left_out(
    small_bench: Bench,
) -> None:
    sentences = ("good film the plot", "good - film", "bad cast the song", "fine story the end", "dull scene a dark")
    examples = find_examples(small_bench.model, np.zeros(12, dtype=np.int64), sentences=sentences)
    assert len(examples) == 12
    for rows in examples:
        shares = [row.share for row in rows]
        assert len(rows) == 3
        assert shares == sorted(shares, reverse=True)
        assert 1 not in {row.text for row in rows}
    assert find_examples(small_bench.model, np.zeros(12, dtype=np.int64), sentences=("good - film",)) == ((),) * 12


def test_removals_are_stored_with_those_of_other_heads(small_bench: Bench) -> None:
    removals = {head: measure_removal(small_bench, head) for head in (5, 7)}
    assert stored_removals(small_bench) == removals


@pytest.mark.parametrize("name", bundled.RUNS)
def test_bundled_cards_are_of_all_heads_of_their_model(name: str) -> None:
    run = bundled.read_run(name)
    assert run is not None
    bench = Source.open(bundled.RUNS[name]).bench
    families = run.evidence().families
    examples = stored_examples(bench, families)
    assert examples is not None
    assert len(examples) == len(stored_removals(bench)) == len(families)
    for example in (row for rows in examples for row in rows):
        words = SENTENCES[example.text].split()
        assert all(max(arc.query, arc.key) < len(words) for arc in example.arcs)
    # Other families have other sentences.
    assert stored_examples(bench, families + 1) is None
