from __future__ import annotations

import numpy as np
import pytest

from cahp.models.held_out import Divergences, count_compared, hold_out
from cahp.tasks.window import Source, Window


def window(source: Source, size: int = 4) -> Window:
    ids = np.arange(2 * size + 1)
    scored = size if source != "text" else 2 * size
    return Window("", ids, np.zeros(scored), np.zeros(scored), source)


def test_a_fifth_of_each_kind_is_held_out_and_of_two_repeats_one() -> None:
    items = [window("text")] * 20 + [window("random")] * 10 + [window("passage")] * 2
    learned, held_out = hold_out(items)
    assert (held_out < 20).sum() == 4
    assert ((held_out >= 20) & (held_out < 30)).sum() == 2
    assert (held_out >= 30).sum() == 1
    assert sorted([*learned, *held_out]) == list(range(32))
    assert held_out.tolist() != hold_out(items, seed=1)[1].tolist()


def test_only_the_second_reading_is_compared() -> None:
    counts = count_compared([window("text"), window("random")])
    assert counts is not None
    assert counts.tolist() == [9, 4]
    assert count_compared([window("text")]) is None
    assert count_compared(["a text", "another"]) is None


@pytest.mark.parametrize(
    ("text", "repeats", "better"), [(0.1, 2.0, True), (0.1, 1.0, True), (0.1, 2.1, False), (0.2, 1.0, False)]
)
def test_a_repair_lowers_the_divergence_on_text_and_does_not_raise_that_on_repeats(
    text: float, repeats: float, better: bool
) -> None:
    before = Divergences(total=0.4, text=0.2, repeats=2.0, agreement=0.5)
    after = Divergences(total=0.3, text=text, repeats=repeats, agreement=0.6)
    assert after.is_better_than(before) is better
    assert Divergences.from_score(after.score) == after


def test_without_repeats_the_text_decides() -> None:
    before = Divergences(0.2, 0.2, None, 0.5)
    after = Divergences(0.1, 0.1, None, 0.6)
    assert after.is_better_than(before)
    assert Divergences.from_score(after.score) == after
    assert after.describe_change(before, "refit", "6 windows") == (
        "KL divergence 0.100 nats on 6 windows after refit, 0.200 before"
    )
