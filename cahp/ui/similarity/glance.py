"""All heads at a glance: the mean attention map of each, layers by heads."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from cahp.figures import heads as figures
from cahp.figures.head_grid import places
from cahp.studies.head_habits import MOSTLY, HeadHabits
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen
from cahp.ui.similarity.over_texts import habits
from cahp.values import HeadMask


def draw(explorer: Explorer) -> None:
    """Draw the thumbnails; a click on one opens its head."""
    mask = explorer.mask
    head = chosen.settle(mask, lambda: explorer.selected or 0)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        with st.container(width=320):
            chosen.box(mask)
        st.button("More about this head", key="glance-open", on_click=chosen.open_view, args=("head",))
    found = habits(explorer)
    if found is not None:
        _thumbnails(found, mask, head)


def _thumbnails(found: HeadHabits, mask: HeadMask, head: int) -> None:
    mostly, dark = found.mostly, display.is_dark()

    def opened(other: int) -> None:
        chosen.choose(other)
        chosen.open_view("head")

    means = found.shares.mean(axis=0)
    display.show(
        cache_with(
            found,
            ("glance", mask.sha256, head, dark),
            lambda: figures.glance_figure(found.patterns, mostly, mask, selected=head, dark=dark),
        ),
        title=_finding(mostly),
        help=f"The mean attention map of every head over {found.texts} evaluation texts, each text resized to one "
        "size. Rows are query tokens, columns their targets; each head has its own scale. A frame marks a kept head, "
        f"the strong frame the chosen one. The label names a target with {MOSTLY:.0%} or more of the attention: 1st = "
        "first token, sep = separators, self = the token itself, prev and next = its neighbours, punc = punctuation; "
        "wide = no main target. Click a head for its shares with intervals.",
        name="glance",
        data=lambda: {
            **places(mask.layers, mask.heads),
            "mostly": [figures.WORDS[kind] for kind in mostly],
            **{kind: means[:, place].round(5).tolist() for place, kind in enumerate(figures.WORDS) if kind != "broad"},
            "kept": mask.keep.ravel().tolist(),
        },
        on_pick=opened,
    )
    words = ", ".join(f"{short} {figures.WORDS[kind]}" for kind, short in figures.SHORT.items())
    st.caption(f"Framed: kept on the board. Strong frame: the chosen head. Labels: {words}.")


def _finding(mostly: list[str]) -> str:
    counts = Counter(mostly)
    kinds = [kind for kind, _ in counts.most_common() if kind != "broad"]
    if not kinds:
        return f"None of {len(mostly)} heads has a main target"
    first, *others = kinds[:4]
    more = "".join(f", {counts[kind]} to {figures.WORDS[kind]}" for kind in others)
    return (
        f"{counts[first]} of {len(mostly)} heads attend mostly to {figures.WORDS[first]}{more}; {counts['broad']} "
        "have no main target"
    )
