from types import SimpleNamespace
from typing import Any

import pytest

from cahp.features.learn.classroom import ClassError, Classes, Classroom

ANSWER: Any = object()
#: Two steps, whose guesses are at most 10 and 5.
SUBJECT: Any = SimpleNamespace(steps=[SimpleNamespace(highest=10), SimpleNamespace(highest=5)])


@pytest.fixture
def room() -> Classroom:
    room = Classroom(SUBJECT, "teacher")
    for who in "ab":
        room.join(who)
    return room


def test_guesses_are_taken_until_the_answer_is_shown_and_nobody_s_order_is_told(room: Classroom) -> None:
    for who, value in (("b", 7), ("a", 3), ("a", 9)):
        room.guess(who, 0, value)
    assert room.list_guesses(0) == [7, 9]
    room.answers[0] = ANSWER
    room.guess("b", 0, 1)
    assert room.list_guesses(0) == [7, 9]
    assert room.moment == (0, ANSWER)


def test_a_guess_stays_in_the_range_of_its_step_and_at_the_step_of_the_class(room: Classroom) -> None:
    room.guess("a", 0, 10**9)
    room.guess("b", 0, -4)
    assert room.list_guesses(0) == [0, 10]
    room.at = 1
    room.guess("a", 0, 2)
    room.guess("somebody who never came in", 1, 2)
    assert (room.list_guesses(0), room.list_guesses(1)) == ([0, 10], [])


def test_a_class_ends_with_the_session_that_leads_it() -> None:
    awake = {"one", "two"}
    classes = Classes(awake.__contains__)
    first, second = (Classroom(SUBJECT, leader) for leader in ("one", "two"))
    classes.open(first)
    classes.open(second)
    assert classes.find(first.code) is first
    assert classes.led_by("two") is second
    awake.discard("one")
    assert classes.find(first.code) is None
    classes.close("two")
    assert classes.find(second.code) is None
    assert first.code != second.code


def test_who_opens_another_class_ends_the_first_and_there_are_not_endlessly_many() -> None:
    classes = Classes(lambda _: True)
    first = Classroom(SUBJECT, "one")
    classes.open(first)
    classes.open(Classroom(SUBJECT, "one"))
    assert classes.find(first.code) is None
    for number in range(31):
        classes.open(Classroom(SUBJECT, f"another {number}"))
    with pytest.raises(ClassError, match="32 classes are open"):
        classes.open(Classroom(SUBJECT, "one too many"))


def test_a_full_class_says_so() -> None:
    room = Classroom(SUBJECT, "teacher")
    for number in range(1000):
        room.join(str(number))
    room.join("0")
    with pytest.raises(ClassError, match=r"full \(1,000 people\)"):
        room.join("one more")
