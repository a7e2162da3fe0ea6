"""Whether heads of one cluster are redundant: ``cahp premise``, and a claim on Compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Command
    from cahp.ui.frame.panels import Panel


def _list_commands() -> Sequence[Command]:
    from cahp.features.premise.command import premise

    return (premise,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.premise.panel import CLAIM

    return (CLAIM,)


PREMISE = Feature("premise", commands=_list_commands, panels=_list_panels)
