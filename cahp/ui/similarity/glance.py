"""All heads at a glance: the mean attention pattern of each, layers by heads."""

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
    """The thumbnails; a click on one opens its head."""
    mask = explorer.mask
    head = chosen.settle(mask, lambda: explorer.selected or 0)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        with st.container(width=320):
            chosen.box(mask)
        st.button("Look at this head", key="glance-open", on_click=chosen.open_view, args=("head",))
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
        help=f"The mean attention map of every head over {found.texts} evaluation texts, each text's map resized to "
        "one size: rows look, columns are looked at, and each head has its own scale, so that faint patterns show. "
        "A frame means that the board keeps the head; the strong frame is the head that is chosen. Under each stands "
        f"where {MOSTLY:.0%} or more of its attention goes (mean over the texts): 1st = the first token, sep = "
        "separators, self = the token itself, prev and next = its neighbours, punc = punctuation; wide = no one place. "
        "Click one to see its shares with their intervals.",
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
    st.caption(
        f"Framed: kept on the board. Strong frame: the head that is chosen. Below each, where it looks: {words}."
    )


def _finding(mostly: list[str]) -> str:
    counts = Counter(mostly)
    kinds = [kind for kind, _ in counts.most_common() if kind != "broad"]
    if not kinds:
        return f"None of {len(mostly)} heads looks mostly at one place"
    said = ", ".join(f"{counts[kind]} at {figures.WORDS[kind]}" for kind in kinds[:4])
    return f"What {len(mostly)} heads look at mostly: {said}; {counts['broad']} at no one place"
