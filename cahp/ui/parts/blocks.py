"""Blocks on a page: findings, tables with their downloads, charts, and where the board shows marks of heads."""

from collections.abc import Hashable, Iterable
from functools import partial

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
    dark = display.is_dark()
    finding = True
    for block in blocks:
        match block:
            case Line():
                write = st.markdown
                sentence = f"{plain(capital(block.text.strip()))}."
                if finding and block.flagged:
                    write = st.warning
                elif finding:
                    sentence = f"**{sentence}**"
                write(sentence)
                finding = False
            case Text():
                st.caption(plain(block.text))
            case Table(rows=[_, *_]):
                if block.title:
                    st.caption(plain(block.title))
                columns = dict(zip(block.columns, zip(*block.texts, strict=True), strict=True))
                st.table({name: list(map(plain, cells)) for name, cells in columns.items()}, hide_index=True)
                display.download_csv(columns, f"{form}{block.name}")
            case Figure():
                if owner is None:
                    drawn = block.draw(dark)
                else:
                    drawn = display.cache_with(owner, (block.name, key, dark), partial(block.draw, dark))
                display.show(
                    drawn,
                    title=block.title,
                    help=plain(block.help),
                    name=block.name,
                    data=block.data,
                    formula=block.formula,
                )
            case Marks():
                # The board has these colours.
                st.caption(plain(f"{block.caption}. The board shows them under “{block.label}”."))
