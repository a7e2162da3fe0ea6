from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cahp.features.learn.classroom import ClassError, Classes, Classroom


def step(highest: int = 10) -> Any:
    return SimpleNamespace(highest=highest)


ANSWER: Any = object()
PICTURE: Any = object()


@pytest.fixture
def awake() -> set[str]:
    return {"a", "b"}


@pytest.fixture
def room(awake: set[str]) -> Classroom:
    room = Classroom([step(), step(5)], PICTURE, about="", leader="teacher", alive=awake.__contains__)
    for who in "ab":
        room.attend(who)
    return room


def test_guesses_are_taken_until_the_answer_is_shown_and_nobody_s_order_is_told(room: Classroom) -> None:
    assert room.guess("b", 0, 7)
    assert room.guess("a", 0, 3)
    assert room.guess("a", 0, 9)
    assert room.guesses(0) == [7, 9]
    room.show(0, ANSWER)
    assert not room.guess("b", 0, 1)
    assert room.guesses(0) == [7, 9]
    assert room.moment == (0, ANSWER)


def test_a_guess_stays_in_the_range_of_its_step_and_at_the_step_of_the_class(room: Classroom) -> None:
    assert room.guess("a", 0, 10**9)
    assert room.guess("b", 0, -4)
    assert room.guesses(0) == [0, 10]
    room.go(1)
    assert not room.guess("a", 0, 2)
    assert room.guess("a", 1, 2)
    assert (room.guess_of("a", 0), room.guess_of("a", 1), room.guess_of("b", 1)) == (10, 2, None)
    assert not room.guess("somebody who never came in", 1, 2)


def test_every_page_learns_of_a_step_and_of_an_answer_which_stays(room: Classroom) -> None:
    moments = [room.moment]
    another: Any = object()
    for do in (lambda: room.go(1), lambda: room.show(1, ANSWER), lambda: room.show(1, another), lambda: room.go(7)):
        do()
        moments.append(room.moment)
    assert moments == [(0, None), (1, None), *[(1, ANSWER)] * 3]
    assert [at for at, _ in room.shown()] == [1]


def test_who_has_left_is_not_counted_but_the_guess_is(room: Classroom, awake: set[str]) -> None:
    room.guess("a", 0, 4)
    assert room.here() == 2
    awake.discard("a")
    assert room.here() == 1
    assert room.guesses(0) == [4]


def test_a_class_ends_with_the_session_that_leads_it() -> None:
    awake = {"one", "two"}
    classes = Classes(awake.__contains__)
    first = classes.open([step()], PICTURE, about="", leader="one")
    second = classes.open([step()], PICTURE, about="", leader="two")
    assert classes.find(first.code) is first
    assert classes.led_by("two") is second
    awake.discard("one")
    assert classes.find(first.code) is None
    classes.close("two")
    assert classes.find(second.code) is None
    assert first.code != second.code


def test_who_opens_another_class_ends_the_first_and_there_are_not_endlessly_many() -> None:
    classes = Classes(lambda _: True)
    first = classes.open([step()], PICTURE, about="", leader="one")
    assert classes.open([step()], PICTURE, about="", leader="one") is classes.led_by("one")
    assert classes.find(first.code) is None
    for number in range(31):
        classes.open([step()], PICTURE, about="", leader=f"another {number}")
    with pytest.raises(ClassError, match="32 classes are open"):
        classes.open([step()], PICTURE, about="", leader="one too many")
    classes.open([step()], PICTURE, about="", leader="one")


def test_a_full_class_says_so() -> None:
    room = Classroom([step()], PICTURE, about="", leader="teacher", alive=lambda _: True)
    for number in range(1000):
        room.attend(str(number))
    room.attend("0")
    with pytest.raises(ClassError, match=r"full \(1,000 people\)"):
        room.attend("one more")
