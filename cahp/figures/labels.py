"""Other people's words, ready for a figure."""

from __future__ import annotations

import html
import unicodedata


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
