"""Colourings of the board by the roles of heads, and by what they attend to."""

from __future__ import annotations

from cahp.board.colourings import Colouring, Painted, Pictures, paint_marks
from cahp.features.roles.habits import HeadMaps
from cahp.features.roles.section import mark_roles
from cahp.values import HeadMask
from cahp.values.head_roles import HeadRoles


def _paint_maps(maps: HeadMaps, mask: HeadMask) -> Pictures:
    return Pictures(maps.pictures, f"Mean attention, n = {maps.texts}: rows to columns")


def _paint_roles(roles: HeadRoles, mask: HeadMask) -> Painted:
    return paint_marks(mark_roles(roles))


MAPS: Colouring[HeadMaps] = Colouring("attention", "what they attend to", _paint_maps)
BY_ROLE: Colouring[HeadRoles] = Colouring("roles", "roles", _paint_roles)
