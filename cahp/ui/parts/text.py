"""Other people's words, ready for a sentence on screen."""

from __future__ import annotations

import re

_MARKS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@])")


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it is: no links, images, HTML, formulas, colours or icons."""
    # A line break inside would end the paragraph, and could start a list or heading in the next line.
    return _MARKS.sub(r"\\\1", " ".join(text.split()))
