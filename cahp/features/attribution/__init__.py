"""Which heads matter for one text: attribution patching, checked by exact removal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Command
    from cahp.ui.frame.panels import BoardColouring, Panel

#: Heads that are removed exactly.
TOP = 10
#: Evaluation texts of a check.
CHECKED = 50


def _list_commands() -> Sequence[Command]:
    from cahp.features.attribution.command import attribute

    return (attribute,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.attribution.panel import TAB

    return (TAB,)


def _list_colourings() -> Sequence[BoardColouring[Any]]:
    from cahp.features.attribution.panel import THIS_TEXT

    return (THIS_TEXT,)


ATTRIBUTION = Feature("attribution", commands=_list_commands, panels=_list_panels, colourings=_list_colourings)
