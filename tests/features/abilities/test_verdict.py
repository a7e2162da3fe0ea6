"""The word of an ability follows from its values item by item, and hand-made values have known words."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from cahp.features.abilities.record import AbilitiesRecord, ItemValues, decide, find_word, lower_limit
from cahp.files import json_text, plain_json

#: 64 items with a mean gain of 1 nat above a chance of 0.
FULL = np.linspace(0.5, 1.5, 64)
NOISE = np.tile([-0.1, 0.1], 32)


def row(pruned: np.ndarray, full: np.ndarray = FULL, **more: object) -> ItemValues:
    return ItemValues("repeats", "repeats text", "nats", values={"full": full, "pruned": pruned}, **more)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (NOISE, "kept"),
        (NOISE + 0.5, "kept"),
        (np.zeros(64), "kept"),
        # Surely below 0, and within a tenth of the lead.
        (NOISE - 0.05, "kept"),
        (NOISE - 0.3, "weaker"),
        (NOISE - 0.51, "lost"),
        (NOISE * 30 - 0.3, "not significant"),
    ],
)
def test_the_word_follows_from_the_paired_difference(change: np.ndarray, word: str) -> None:
    (ability,) = decide([row(FULL + change)])
    assert ability.pruned is not None
    assert ability.pruned.word == word
    assert ability.pruned.difference.value == pytest.approx(change.mean())


def test_an_ability_that_the_full_model_lacks_is_not_measurable() -> None:
    values = np.tile([-1.0, 1.0], 32)
    (ability,) = decide([row(values - 5, full=values)])
    assert ability.word_of("pruned") == "not measurable"
    assert ability.reason == "the full model is not surely above chance"


def test_few_items_and_a_reason_are_not_measurable() -> None:
    few, none = decide([row(FULL[:7] - 1, full=FULL[:7]), ItemValues("grammar", "grammar", reason="it reads 8 tokens")])
    assert (few.reason, few.word_of("pruned")) == ("7 items are too few", "not measurable")
    assert (none.reason, none.n, none.full, none.word_of("pruned")) == ("it reads 8 tokens", 0, None, "not measurable")


def test_shares_are_compared_in_points_above_their_chance() -> None:
    full = np.ones(40)
    pruned = np.repeat([0.0, 1.0], [10, 30])
    (ability,) = decide([ItemValues("grammar", "grammar", chance=0.5, values={"full": full, "pruned": pruned})])
    assert (ability.full.text, ability.pruned.value.text) == ("100.0 %", "75.0 %")
    assert ability.pruned.difference.text == "\N{MINUS SIGN}25.0 points"
    # Exactly half of the lead of 50 points is gone, which is not more than half.
    assert ability.pruned.word == "weaker"


def test_the_lower_limit_is_that_of_students_t() -> None:
    # Mean 2, standard error 1 / sqrt(3), t of 2 degrees of freedom 2.92.
    assert lower_limit(np.array([1.0, 2.0, 3.0])) == pytest.approx(2 - 2.92 / np.sqrt(3), abs=1e-3)


def test_correction_makes_a_weak_sign_among_many_rows_not_significant() -> None:
    change = np.zeros(64)
    change[:6] = -2
    alone, *_ = decide([row(FULL + change)])
    among, *_ = decide([row(FULL + change), *[row(FULL + NOISE)] * 9])
    assert (alone.word_of("pruned"), among.word_of("pruned")) == ("weaker", "not significant")
    assert find_word(change, 1.0, 0.04) == "weaker"


def test_a_receipt_is_read_back_from_its_file_and_loses_its_recovery() -> None:
    values = {"full": FULL, "pruned": FULL - 0.8 + NOISE, "recovered": FULL + NOISE}
    losses = {state: 2 - gains for state, gains in values.items()}
    rows = decide([ItemValues("repeats", "repeats text", "nats", values=values, loss_label="again", losses=losses)])
    record = AbilitiesRecord(rows)
    assert msgspec.convert(json.loads(json_text(plain_json(record))), AbilitiesRecord) == record
    assert record.states == ("pruned", "recovered")
    assert [one.label for one in record.by_word("pruned")["lost"]] == ["repeats text"]
    assert record.summarise("pruned") == "of 1 measurable abilities: lost repeats text"
    assert record.summarise("recovered") == "no ability is surely worse; 1 of 1 measurable ones are surely kept"
    pruned = record.of_models("full", "pruned")
    assert (pruned.states, list(pruned.rows[0].losses)) == (("pruned",), ["full", "pruned"])
    assert pruned.rows[0].pruned == record.rows[0].pruned
