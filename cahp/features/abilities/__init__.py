"""What a pruned model can still do: a receipt of its abilities beside the full model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.cli.command import Command
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import Panel


def _list_sections() -> Sequence[Section[Any]]:
    from cahp.features.abilities.section import RECEIPT

    return (RECEIPT,)


def _list_commands() -> Sequence[Command]:
    from cahp.features.abilities.command import abilities

    return (abilities,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.abilities.panel import STRIP, TAB

    return (STRIP, TAB)


ABILITIES = Feature("abilities", sections=_list_sections, commands=_list_commands, panels=_list_panels)
