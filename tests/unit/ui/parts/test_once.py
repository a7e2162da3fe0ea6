"""What is drawn once for all who look at the same thing."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("streamlit")

from cahp.ui.parts import once as module
from cahp.ui.parts.once import once


class Thing:
    """Something that can be drawn."""


def test_fifty_who_ask_at_once_get_the_same_drawing_which_is_made_once() -> None:
    thing, made, together = Thing(), list[object](), threading.Barrier(50)

    def draw() -> object:
        made.append(object())
        return made[-1]

    def ask(_: int) -> object:
        together.wait(10)
        return once(thing, "a drawing", draw)

    with ThreadPoolExecutor(50) as people:
        seen = set(people.map(ask, range(50)))
    assert len(made) == 1
    assert seen == set(made)


def test_another_thing_or_another_question_gets_a_drawing_of_its_own() -> None:
    one, other = Thing(), Thing()
    drawings = {once(thing, key, object) for thing in (one, other) for key in ("light", "dark")}
    assert len(drawings) == 4


def test_a_drawing_goes_with_what_it_was_drawn_of() -> None:
    kept = len(module._made)
    thing = Thing()
    once(thing, "a drawing", object)
    assert len(module._made) == kept + 1
    del thing
    gc.collect()
    assert len(module._made) == kept


def test_no_more_are_kept_of_a_thing_than_the_bound_and_the_latest_stay() -> None:
    thing = Thing()
    for key in range(module.KEPT + 10):
        once(thing, key, object)
    assert len(module._made[thing]) == module.KEPT
    last = module.KEPT + 9
    assert once(thing, last, object) is once(thing, last, object)


def test_a_drawing_that_fails_is_tried_again() -> None:
    thing = Thing()
    with pytest.raises(ZeroDivisionError):
        once(thing, "a drawing", lambda: 1 / 0)
    assert once(thing, "a drawing", lambda: 2) == 2
