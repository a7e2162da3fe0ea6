"""One head on one text: what it attends to, which heads do the same, and where they sit."""

from __future__ import annotations

import streamlit as st

from cahp.figures import similarity as figures
from cahp.figures.attention_map import attention_figure
from cahp.figures.head_grid import head_name
from cahp.stages.similarity import nearest
from cahp.ui.parts import display
from cahp.ui.similarity import chosen
from cahp.ui.similarity.comparing import FORMULA, HOW, Seen
from cahp.values import HeadMask


def draw(seen: Seen, mask: HeadMask, head: int) -> None:
    """What the chosen head attends to, which heads do the same, and where they sit."""
    st.button("This head over all texts", key="open-head", on_click=chosen.open_view, args=("head",))
    attention, apart, heads, dark = seen.attention, seen.distances, mask.heads, display.is_dark()
    weights, name = attention.by_head[head], head_name(head, heads)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            attention_figure(attention.tokens, weights, dark=dark, height=470),
            title=f"{name.capitalize()} {figures.habit(weights)}",
            help=(
                "Each row is a token that looks, each column a token it looks at; a row sums to 1. The stronger a "
                "cell, the more attention; weak attention is spread out on the scale so that it shows beside strong."
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
                "Every square is a head, in its layer's row; the farther left, the more it attends like the chosen "
                "head (star). Click a square to look at that head."
            ),
            name="among-layers",
            data=lambda: {**figures.heads_table(seen.graph().communities, mask), "distance": apart[head].tolist()},
            on_pick=chosen.choose,
        )
    near = nearest(apart, head, count=3)
    if near:
        state = "kept" if mask.keep.flat[near[0]] else "pruned"
        display.show(
            figures.beside(attention, apart, [head, *near], heads=heads, dark=dark),
            title=f"{head_name(near[0], heads).capitalize()} ({state}) is most like it: "
            f"{apart[head, near[0]]:.2f} apart on a scale to 1",
            help="The attention of the chosen head and of the three heads most like it on this text, on one scale of "
            f"colours. {HOW}",
            formula=FORMULA,
            name="nearest",
            data={
                "head": [head_name(other, heads) for other in near],
                "distance": [round(float(apart[head, other]), 4) for other in near],
                "kept": [bool(mask.keep.flat[other]) for other in near],
            },
        )
