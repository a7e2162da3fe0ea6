"""A person's own text: predictions, and the continuations of language models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import Panel


def _list_sections() -> Sequence[Section[Any]]:
    from cahp.features.own_text.section import CONTINUATION

    return (CONTINUATION,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.own_text.panel import TAB

    return (TAB,)


OWN_TEXT = Feature("own_text", sections=_list_sections, panels=_list_panels)
