"""One head on one text: its attention map, the heads that attend alike, and their layers."""

from __future__ import annotations

import streamlit as st

from cahp.figures import similarity as figures
from cahp.figures.attention_map import attention_figure
from cahp.figures.head_grid import head_name
from cahp.stages.similarity import nearest_heads
from cahp.ui.parts import display
from cahp.ui.similarity import chosen
from cahp.ui.similarity.comparing import FORMULA, HOW, Seen
from cahp.values import HeadMask


def draw(seen: Seen, mask: HeadMask, head: int) -> None:
    """Draw the chosen head, the heads that attend alike, and their layers."""
    st.button("More about this head", key="open-head", on_click=chosen.open_view, args=("head",))
    attention, apart, heads, dark = seen.attention, seen.distances, mask.heads, display.is_dark()
    weights, name = attention.by_head[head], head_name(head, heads)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            attention_figure(attention.tokens, weights, dark=dark, height=470),
            title=f"{name.capitalize()} {figures.habit(weights)}",
            help=(
                "Each row is a query token, each column a token it attends to; a row sums to 1. The scale stretches "
                "weak attention so that it shows beside strong attention."
            ),
            name="attention",
            data=lambda: figures.attention_table(attention.tokens, weights),
            alt=f"Attention of {name} over {len(attention.tokens)} tokens.",
        )
    with right:
        picture, finding = figures.among_layers(apart, mask, head, dark=dark)
        display.show(
            picture,
            title=finding,
            help=(
                "Each square is a head in the row of its layer; the farther left, the more it attends like the chosen "
                "head (star). Click a square to choose that head."
            ),
            name="among-layers",
            data=lambda: {**figures.heads_table(seen.graph().communities, mask), "distance": apart[head].tolist()},
            on_pick=chosen.choose,
        )
    near = nearest_heads(apart, head, count=3)
    if near:
        state = "kept" if mask.keep.flat[near[0]] else "pruned"
        display.show(
            figures.beside(attention, apart, [head, *near], heads=heads, dark=dark),
            title=f"{head_name(near[0], heads).capitalize()} ({state}) attends most alike: "
            f"distance {apart[head, near[0]]:.2f} of at most 1",
            help="The attention maps of the chosen head and of the three heads that attend most alike on this text, "
            f"with one colour scale. {HOW}",
            formula=FORMULA,
            name="nearest",
            data={
                "head": [head_name(other, heads) for other in near],
                "distance": [round(float(apart[head, other]), 4) for other in near],
                "kept": [bool(mask.keep.flat[other]) for other in near],
            },
        )
