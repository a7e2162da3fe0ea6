import numpy as np
import pytest

from cahp.models.reading import Divergences, hold_out
from cahp.tasks.answers import Source, Window


def make_text(start: int, *, length: int = 32) -> Window:
    ids = np.arange(start, start + length)
    return Window("", ids, np.zeros(length - 1), np.zeros(length - 1))


def make_repeat(source: Source, start: int, *, length: int = 16) -> Window:
    half = np.arange(start, start + length)
    return Window("", np.concatenate([[0], half, half]), np.zeros(length), np.zeros(length), source)


def test_a_fifth_of_each_kind_is_held_out_and_of_two_repeats_one() -> None:
    texts = [make_text(100 * place) for place in range(1, 21)]
    random = [make_repeat("random", 10_000 + 100 * place) for place in range(10)]
    # Their tokens are those of no window.
    passages = [make_repeat("passage", 20_000), make_repeat("passage", 30_000)]
    items = [*texts, *random, *passages]
    learned, held_out = hold_out(items)
    assert (held_out < 20).sum() == 4
    assert ((held_out >= 20) & (held_out < 30)).sum() == 2
    assert (held_out >= 30).sum() == 1
    assert sorted([*learned, *held_out]) == list(range(32))
    assert held_out.tolist() != hold_out(items, seed=1)[1].tolist()


def test_a_text_that_is_held_out_is_not_learned_where_it_stands_again() -> None:
    texts = [f"text {place}" for place in range(20)]
    plain, held_out = hold_out(texts)
    again = list(texts)
    again[plain[3]] = texts[held_out[0]]
    pairs = [(text, "the same") for text in again]
    for items in (again, pairs):
        learned, tried = hold_out(items)
        assert tried.tolist() == held_out.tolist()
        assert learned.tolist() == [row for row in plain if row != plain[3]]
    # Where nothing else is left, the same texts are learned.
    assert len(hold_out(["text"] * 20)[0]) == 16


def test_no_model_is_compared_on_a_window_of_which_it_learned_a_passage() -> None:
    texts = [make_text(100 * place) for place in range(1, 21)]
    elsewhere = [make_repeat("passage", 10_000 + 100 * place) for place in range(3)]
    learned, held_out = hold_out([*texts, *elsewhere])
    tried = [row for row in held_out if row < 20]
    read, border, apart = (texts[row].ids[0] for row in (tried[0], tried[1], learned[0]))
    # One is in the middle of a held-out window, one has the last token of another, and one is held out itself.
    starts = iter([read + 8, border + 31])
    passages = []
    for row in (20, 21, 22):
        start = apart
        if row not in held_out:
            start = next(starts)
        passages.append(make_repeat("passage", start))
    now_learned, now_held_out = hold_out([*texts, *passages])
    assert now_learned.tolist() == learned.tolist()
    assert now_held_out.tolist() == [row for row in held_out if row != tried[0]]


def test_of_many_windows_eight_are_held_out_and_all_others_learned() -> None:
    texts = [make_text(100 * place) for place in range(1, 101)]
    _, fifth = hold_out([f"text {row}" for row in range(100)])
    learned, held_out = hold_out(texts)
    assert len(fifth) == 20
    assert len(held_out) == 8
    assert set(held_out) < set(fifth)
    assert sorted([*learned, *held_out]) == list(range(100))
    # A passage of a window that would be held out: the window is learned instead.
    passages = [make_repeat("passage", texts[held_out[0]].ids[8]), *(make_repeat("passage", 20_000) for _ in range(9))]
    now_learned, now_held_out = hold_out([*texts, *passages])
    assert 100 in now_learned
    assert held_out[0] in now_learned
    assert (now_held_out < 100).sum() == 8


@pytest.mark.parametrize(
    ("text", "repeats", "better"), [(0.1, 2.0, True), (0.1, 1.0, True), (0.1, 2.1, False), (0.2, 1.0, False)]
)
def test_a_repair_diverges_less_on_text_and_not_more_on_repeats(text: float, repeats: float, better: bool) -> None:
    before = Divergences(text=0.2, repeats=2.0, agreement=0.5, count=9)
    after = Divergences(text=text, repeats=repeats, agreement=0.6, count=9)
    assert after.is_better_than(before) is better
