"""Blocks on a page: findings, tables with their downloads, charts, and where the board shows marks of heads."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any

import streamlit as st

from cahp.show.blocks import Block, Figure, Line, Marks, Table, Text
from cahp.ui.parts import display
from cahp.ui.parts.display import plain
from cahp.words import capital


def draw(blocks: Iterable[Block], *, owner: object = None, key: Hashable = None, form: str = "") -> None:
    """Draw blocks one below the other; the first finding stands out.

    Charts that depend on ``owner`` and ``key`` alone are made once for all sessions (None: for each).
    ``form`` tells tables of the same name on one page apart.
    """
    first = True
    for block in blocks:
        match block:
            case Line():
                _draw_line(block, first=first)
                first = False
            case Text():
                st.caption(plain(block.text))
            case Table():
                _draw_table(block, form)
            case Figure():
                _draw_figure(block, owner, key)
            case Marks():
                # The board has these colours.
                st.caption(plain(f"{block.caption}. The board shows them under “{block.label}”."))


def _draw_figure(figure: Figure, owner: object, key: Hashable) -> None:
    dark = display.is_dark()
    drawn: Any
    if owner is None:
        drawn = figure.draw(dark)
    else:
        drawn = display.cache_with(owner, (figure.name, key, dark), partial(figure.draw, dark))
    display.show(
        drawn,
        title=figure.title,
        help=plain(figure.help),
        name=figure.name,
        data=figure.data,
        alt=figure.alt,
        formula=figure.formula,
    )


def _draw_line(line: Line, *, first: bool) -> None:
    words = plain(capital(line.text.strip()))
    if first and line.flagged:
        st.warning(f"{words}.")
    elif first:
        st.markdown(f"**{words}.**")
    else:
        st.markdown(f"{words}.")


def _draw_table(table: Table, form: str) -> None:
    if not table.rows:
        return
    columns = dict(zip(table.columns, zip(*table.texts, strict=True), strict=True))
    if table.title:
        st.caption(plain(table.title))
    st.table({name: list(map(plain, cells)) for name, cells in columns.items()}, hide_index=True)
    display.download_csv({name: list(cells) for name, cells in columns.items()}, f"{form}{table.name}")
