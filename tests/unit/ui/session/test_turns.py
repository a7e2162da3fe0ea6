"""Whose turn it is, without threads."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cahp.ui.session.jobs import Turns


@dataclass(frozen=True)
class Wish:
    id: int
    session_id: str


def waiting(sessions: str) -> Turns:
    """A wish for every letter, in this order, each of the session of that letter."""
    turns: Turns = Turns()
    for number, session in enumerate(sessions):
        turns.waiting.append(Wish(number, session))
    return turns


def taken(turns: Turns) -> str:
    said = ""
    while (one := turns.take()) is not None:
        said += one.session_id
    return said


@pytest.mark.parametrize(
    ("came", "goes"), [("", ""), ("aaa", "aaa"), ("aaab", "abaa"), ("aaabbc", "abcaba"), ("cba", "cba")]
)
def test_sessions_take_turns(came: str, goes: str) -> None:
    assert taken(waiting(came)) == goes


def test_asking_one_by_one_is_no_way_past_the_line() -> None:
    turns, numbers, said = waiting("b"), count(10), ""
    turns.waiting.append(Wish(next(numbers), "a"))
    turns.waiting.append(Wish(next(numbers), "b"))
    for _ in range(4):
        one = turns.take()
        assert one is not None
        said += one.session_id
        if one.session_id == "a":
            turns.waiting.append(Wish(next(numbers), "a"))
    assert said == "baba"


def test_what_is_put_back_goes_on_before_its_session_s_other_wishes_and_after_others() -> None:
    turns = waiting("aab")
    first = turns.take()
    assert first == Wish(0, "a")
    turns.waiting.append(first)
    assert [turns.take() for _ in range(4)] == [Wish(2, "b"), Wish(0, "a"), Wish(1, "a"), None]


def test_a_busy_session_waits_and_keeps_its_turn() -> None:
    turns = waiting("ab")
    assert turns.take(busy={"a"}) == Wish(1, "b")
    assert turns.take(busy={"a"}) is None
    assert turns.take() == Wish(0, "a")


@given(st.text("abcd", max_size=12), st.integers(0, 6))
def test_the_order_that_is_told_is_the_order_that_comes(came: str, before: int) -> None:
    turns = waiting(came)
    for _ in range(before):
        turns.take()
    told = turns.order()
    assert [turns.take() for _ in told] == told
    assert turns.take() is None


@given(st.text("abcd", min_size=1, max_size=12))
def test_nobody_waits_for_two_turns_of_another(came: str) -> None:
    goes = taken(waiting(came))
    for session in set(came):
        first = goes.index(session)
        assert all(goes[:first].count(other) <= 1 for other in set(came))
