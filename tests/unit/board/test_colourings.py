"""A board offers the colourings of which it knows the heads' groups, and those that its host can measure."""

from __future__ import annotations

import numpy as np
from copying import roles_of

from cahp.board.colourings import NEUTRAL, REPLACEABILITY, Coloured, paint
from cahp.features.roles.panel import BY_ROLE
from cahp.values import HeadMask

MASK = HeadMask.full(1, 3)


def test_colourings_that_lack_what_they_need_are_offered_or_left_out() -> None:
    assert paint([Coloured(BY_ROLE, None)], MASK) == []
    assert paint([Coloured(BY_ROLE, None, "next")], MASK) == [{"name": "roles", "label": "roles", "waits": "next"}]


def test_a_head_has_the_colour_and_the_percentage_of_what_kept_heads_can_reproduce_of_it() -> None:
    shares = np.array([[0.0, 0.199, 0.2], [0.85, 1.0, np.nan]])
    (painted,) = paint([Coloured(REPLACEABILITY, shares)], HeadMask.full(2, 3))
    assert painted["groups"].tolist() == [0, 0, 1, 4, 4, 5]
    assert [painted["signs"][group] for group in painted["groups"]] == ["0", "0", "20", "80", "80", ""]
    assert painted["words"][4] == "80 to 100 % replaceable"
    assert len(set(painted["colours"])) == len(painted["inks"]) == 6


def test_a_head_has_the_colour_letters_and_words_of_its_role() -> None:
    (roles,) = paint([Coloured(BY_ROLE, roles_of("induction", "none", "induction"))], MASK)
    assert roles["groups"][0] == roles["groups"][2] != roles["groups"][1]
    assert [roles["signs"][group] for group in roles["groups"]] == ["ind", "", "ind"]
    assert [roles["words"][group] for group in roles["groups"]] == ["induction head", "no role", "induction head"]
    assert roles["colours"][roles["groups"][0]] != roles["colours"][roles["groups"][1]] == NEUTRAL


def test_every_role_has_a_colour_of_its_own() -> None:
    every = roles_of("retrieval", "induction", "duplicate", "previous", "current", "first", "none")
    (painted,) = paint([Coloured(BY_ROLE, every)], MASK)
    assert len(set(painted["colours"])) == 7
