"""A board offers the colourings of which it knows the heads' groups, and those that its host can measure."""

from __future__ import annotations

from copying import roles_of

from cahp.board.colourings import COLOURINGS, HeadFacts, paint
from cahp.board.colours import COLOURS
from cahp.values import HeadMask

MASK = HeadMask.full(1, 3)


def test_colourings_that_lack_what_they_need_are_offered_or_left_out() -> None:
    assert paint(HeadFacts(MASK)) == []
    assert paint(HeadFacts(MASK), offered=["roles"]) == [{"name": "roles", "label": "roles", "groups": None}]


def test_a_head_has_the_colour_letters_and_words_of_its_role() -> None:
    (roles,) = paint(HeadFacts(MASK, roles_of("induction", "none", "induction")))
    assert roles["groups"][0] == roles["groups"][2] != roles["groups"][1]
    assert [roles["signs"][group] for group in roles["groups"]] == ["ind", "", "ind"]
    assert [roles["words"][group] for group in roles["groups"]] == ["induction head", "no role", "induction head"]
    colours = [COLOURS[tint] for tint in roles["tints"]]
    assert colours[0] == colours[2] != colours[1]


def test_every_role_has_a_colour_of_its_own() -> None:
    painted = COLOURINGS["roles"].paint(
        HeadFacts(MASK, roles_of("retrieval", "induction", "duplicate", "previous", "current", "first", "none"))
    )
    assert painted is not None
    assert len(set(painted.tints.tolist())) == 7
