"""Colourings of the board by the roles of heads, and by what they attend to."""

from __future__ import annotations

import numpy as np

from cahp.board.colourings import Colouring, Painted, Pictures
from cahp.features.roles.habits import HeadMaps
from cahp.values import HeadMask
from cahp.values.head_roles import NO_ROLE, NOUNS, ROLES, HeadRoles

#: The index in ``COLOURS`` of each role; heads without one are neutral.
_ROLE_TINTS = {"retrieval": 5, "induction": 1, "duplicate": 3, "previous": 0, "current": 4, "first": 2, NO_ROLE: 8}


def _paint_maps(maps: HeadMaps, mask: HeadMask) -> Pictures:
    return Pictures(maps.pictures, f"Mean attention, n = {maps.texts}: rows to columns")


def _paint_roles(roles: HeadRoles, mask: HeadMask) -> Painted:
    names = list(NOUNS)
    groups = np.array([names.index(name) for name in roles.names], dtype=np.int64)
    signs = [""] * len(names)
    described = ["no role"] * len(names)
    for place, name in enumerate(names):
        if name != NO_ROLE:
            signs[place] = ROLES[name].short
            described[place] = f"{NOUNS[name]} head"
    return Painted(
        groups,
        np.array([_ROLE_TINTS[names[group]] for group in groups], dtype=np.int64),
        tuple(signs),
        tuple(described),
        "A head's role is what gets a large share of its attention, more than by chance",
    )


MAPS: Colouring[HeadMaps] = Colouring("attention", "what they attend to", _paint_maps)
BY_ROLE: Colouring[HeadRoles] = Colouring("roles", "roles", _paint_roles)
