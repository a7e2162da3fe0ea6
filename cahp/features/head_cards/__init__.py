"""Head cards: all that is known of one head, opened from every board and by a link.

Other features add sections: a panel of the page ``Card``. Below a place of 10 it is drawn above the sentences, and
otherwise at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cahp.features.feature import Feature

if TYPE_CHECKING:
    from cahp.ui.frame.panels import Panel


def _list_panels() -> Sequence[Panel]:
    from cahp.features.head_cards.panel import DIALOG

    return (DIALOG,)


HEAD_CARDS = Feature("head_cards", panels=_list_panels)
