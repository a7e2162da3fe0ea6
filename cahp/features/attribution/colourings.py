"""The colouring of the board by what heads contribute to the answer on one text."""

from __future__ import annotations

import numpy as np

from cahp.board.colourings import Colouring, Painted
from cahp.board.colours import NEUTRAL
from cahp.features.attribution.result import Attribution
from cahp.values import HeadMask

#: The lower end of each band, as a share of the largest change, and the words of the band.
_BANDS = (
    (-np.inf, "supports it most"),
    (-0.5, "supports it"),
    (-0.15, "supports it a little"),
    (-0.02, "hardly matters"),
    (0.02, "a little against it"),
    (0.15, "against it"),
)
_SIGNS = ("+++", "++", "+", "", "−", "−−")
#: From dark blue over the neutral colour to orange.
_COLOURS = ("#08306B", "#0072B2", "#7FB8D8", NEUTRAL, "#F0B07A", "#D55E00")


def _paint(result: Attribution, mask: HeadMask) -> Painted:
    """Draw the estimated change without each head in bands of the largest change."""
    changes = result.changes.ravel()
    most = float(np.abs(changes).max()) or 1.0
    starts = [start for start, _ in _BANDS]
    groups = np.searchsorted(starts, changes / most, side="right") - 1
    return Painted(
        groups,
        groups,
        _SIGNS,
        tuple(words for _, words in _BANDS),
        f"The answer on this text: estimated change of its log-probability without a {result.unit}, relative to the "
        "largest",
        _COLOURS,
    )


BY_TEXT: Colouring[Attribution] = Colouring("attribution", "this text", _paint, follows_mask=True)
