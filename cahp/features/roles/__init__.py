"""What heads attend to: roles with evidence, and habits over many texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Command
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import BoardColouring, Panel


def _list_sections() -> Sequence[Section[Any]]:
    from cahp.features.roles.section import ROLES_OF_HEADS

    return (ROLES_OF_HEADS,)


def _list_commands() -> Sequence[Command]:
    from cahp.features.roles.command import roles

    return (roles,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.roles import card, glance, panel

    return (panel.TAB, glance.ONE_HEAD, glance.ALL_HEADS, card.HEADLINE)


def _list_colourings() -> Sequence[BoardColouring[Any]]:
    from cahp.features.roles.board import ATTENTION, ROLE

    return (ATTENTION, ROLE)


ROLES = Feature(
    "roles",
    sections=_list_sections,
    commands=_list_commands,
    panels=_list_panels,
    colourings=_list_colourings,
)
