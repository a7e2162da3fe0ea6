"""Numbers and other people's words, ready for the screen."""

from __future__ import annotations

import re

_MARKS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@])")


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it is: no links, images, HTML, formulas, colours or icons."""
    # A line break inside would end the paragraph, and could start a list or heading in the next line.
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def percent(share: float, digits: int = 1) -> str:
    """A share as per cent."""
    return f"{share * 100:.{digits}f} %"


def points(pp: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{pp:+.1f} pp".replace("-", "−")


def interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of numbers."""
    return f"{low:.{digits}f} to {high:.{digits}f}".replace("-", "−")
