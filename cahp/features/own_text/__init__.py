"""A person's own text: predictions, and the continuations of language models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import FirstText, Panel


def _list_sections() -> Sequence[Section[Any]]:
    from cahp.features.own_text.section import CONTINUATION

    return (CONTINUATION,)


def _list_panels() -> Sequence[Panel]:
    from cahp.features.own_text.panel import TAB

    return (TAB,)


def _list_first_texts() -> Sequence[FirstText]:
    from cahp.features.own_text.overview import FIRST_TEXT

    return (FIRST_TEXT,)


OWN_TEXT = Feature("own_text", sections=_list_sections, panels=_list_panels, first_texts=_list_first_texts)
