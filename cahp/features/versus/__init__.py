"""Two pruned models side by side: the pinned one and the one on the board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.ui.frame.panels import Panel


def _list_panels() -> Sequence[Panel]:
    from cahp.features.versus.panel import TAB

    return (TAB,)


VERSUS = Feature("versus", panels=_list_panels)
