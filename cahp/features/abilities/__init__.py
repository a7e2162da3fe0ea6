"""What a pruned model can still do: a receipt of its abilities beside the full model's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import Panel


def _list_sections() -> Sequence[Section[Any]]:
    from cahp.features.abilities.section import RECEIPT

    return (RECEIPT,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.abilities.panel import STRIP, TAB

    return (STRIP, TAB)


ABILITIES = Feature("abilities", sections=_list_sections, panels=_list_panels)
