"""Other people's words, ready for the screen."""

from __future__ import annotations

import html
import re
import unicodedata

_MARKS = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@])")


def plain(text: str) -> str:
    """Text that Streamlit's Markdown shows as it is: no links, images, HTML, formulas, colours or icons."""
    # A line break inside would end the paragraph, and could start a list or heading in the next line.
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def label(text: str, *, limit: int = 24) -> str:
    """A person's text as a Plotly label: no tag, no control or direction character, at most ``limit`` characters."""
    visible = "".join(_visible(char) for char in text)
    if len(visible) > limit:
        visible = visible[: limit - 1] + "…"
    # Plotly reads <b>, <a href> and entities in labels, and TeX between dollar signs.
    return html.escape(visible, quote=False).replace("$", "＄")


def _visible(char: str) -> str:
    # Control, format (direction marks among them), surrogate and unassigned characters.
    return "·" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} else char
