"""Narrow or broad: a mask that was chosen on one task, evaluated on neutral text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import Panel


def _list_sections() -> Sequence[Section[Any]]:
    from cahp.features.neutral.section import NEUTRAL_TEXT

    return (NEUTRAL_TEXT,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.neutral.panel import TAB

    return (TAB,)


NEUTRAL = Feature("neutral", sections=_list_sections, panels=_list_panels)
