"""Heads over the evaluation texts: one head, and all heads at a glance; computed by the worker, kept in the store."""

from __future__ import annotations

from collections import Counter

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cahp.figures import heads as figures
from cahp.figures.head_grid import head_name, places
from cahp.run.bench import Bench
from cahp.studies.head_habits import MOSTLY, TEXTS, HeadHabits, head_habits, kept_habits, mean_over_texts
from cahp.ui.frame.page import link
from cahp.ui.frame.running import measure
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind
from cahp.ui.similarity import chosen
from cahp.words import number, percent, span

#: Attention targets of every head.
HABITS: Kind[Bench, HeadHabits] = Kind(
    lambda bench, _: head_habits(bench),
    lambda bench: f"habits-{bench.card.sha256[:16]}-{bench.evaluation.sha256[:16]}",
    awaited=False,
)


def _measure_habits(explorer: Explorer) -> HeadHabits | None:
    bench = explorer.bench
    texts, title = min(TEXTS, len(bench.evaluation)), "Measure attention targets"
    return measure(
        explorer, HABITS, bench, name="habits", texts=texts, title=title, kept=lambda: kept_habits(bench) is not None
    )


# One head ----------------------------------------------------------------------------------------------------


def _choose_head(explorer: Explorer) -> tuple[int, DeltaGenerator]:
    """Draw the box of heads; the chosen head, and the row of the box for what stands beside it."""
    # At first the head that was clicked on the board, or else the most salient one.
    salient = 0 if explorer.clusters is None else int(explorer.clusters.salience.argmax())
    clicked = explorer.selected
    head = chosen.choose_head(explorer.mask, lambda: salient if clicked is None else clicked)
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    with row, st.container(width=320):
        chosen.box(explorer.mask)
    return head, row


def draw_head(explorer: Explorer) -> None:
    """Draw the chosen head; a link to this view opens it again."""
    head, row = _choose_head(explorer)
    with row:
        link("budget", "Keep or remove it on the board →")
    st.caption("The address of this page is a link to this head.")
    habits = _measure_habits(explorer)
    if habits is None:
        return
    name, dark = head_name(head, explorer.mask.heads).capitalize(), display.is_dark()
    shares, breadth, mostly = habits.of(head), mean_over_texts(habits.breadth[:, head]), habits.mostly[head]
    kind, verb = mostly, "attends mostly to"
    if mostly == "broad":
        kind, verb = max(shares, key=lambda kind: shares[kind].value), "has no main target; most attention goes to"
    low, high = shares[kind].low, shares[kind].high
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            figures.shares_figure(shares, dark=dark),
            title=f"{name} {verb} {figures.WORDS[kind]}: {percent(shares[kind].value, 0)} of its attention "
            f"({span(100 * low, 100 * high)}, n = {habits.texts} {explorer.card.words.texts})",
            help="The targets of its attention, averaged over query tokens and texts. Each weight counts for the first "
            "target that fits: the first token, a separator (another special token), the token itself, the token "
            "before or after, punctuation, or any other word. Lines are 95 % intervals of the mean over texts. A main "
            f"target gets {MOSTLY:.0%} or more.",
            name="head-habits",
            data={
                "attends to": [figures.WORDS[kind] for kind in shares],
                "share": [round(share.value, 5) for share in shares.values()],
                "low": [round(share.low, 5) for share in shares.values()],
                "high": [round(share.high, 5) for share in shares.values()],
            },
        )
    with right:
        display.show(
            figures.pattern_figure(habits.patterns[head], dark=dark),
            title=f"It attends to {number(breadth.value)} tokens at once ({breadth.span}), of "
            f"{number(float(habits.lengths.mean()), 0)} in a text",
            help="The mean attention map, each text resized to one size: rows are query tokens, columns their targets. "
            "A diagonal line: the head attends to neighbours. A column: it attends to one position. The "
            "number of tokens is the exponential of the entropy of a token's attention: 1 for a single token.",
            formula=r"b=\frac{1}{S}\sum_{i=1}^{S}\exp\Bigl(-\sum_j A_{ij}\ln A_{ij}\Bigr)",
            name="head-pattern",
            data=lambda: {
                f"to {column}": habits.patterns[head][:, column].round(6).tolist()
                for column in range(habits.patterns.shape[2])
            },
        )


# All heads ---------------------------------------------------------------------------------------------------


def draw_all(explorer: Explorer) -> None:
    """Draw the mean attention map of every head, layers by heads; a click on one opens its head."""
    mask, head, row = explorer.mask, *_choose_head(explorer)
    with row:
        st.button("More about this head", key="glance-open", on_click=chosen.open_head)
    habits = _measure_habits(explorer)
    if habits is None:
        return
    mostly, means, dark = habits.mostly, habits.shares.mean(axis=0), display.is_dark()
    display.show(
        cache_with(
            habits,
            ("glance", mask.sha256, head, dark),
            lambda: figures.glance_figure(habits.patterns, mostly, mask, selected=head, dark=dark),
        ),
        title=_describe_targets(mostly),
        help=f"The mean attention map of every head over {habits.texts} evaluation {explorer.card.words.texts}, each "
        "resized to one size. Rows are query tokens, columns their targets; each head has its own scale. A frame "
        f"marks a kept head, the strong frame the chosen one. The label names a target with {MOSTLY:.0%} or more of "
        "the attention. Click a head for its shares with intervals.",
        name="glance",
        data=lambda: {
            **places(mask.layers, mask.heads),
            "mostly": [figures.WORDS[kind] for kind in mostly],
            **{kind: means[:, place].round(5).tolist() for place, kind in enumerate(figures.WORDS) if kind != "broad"},
            "kept": mask.keep.ravel().tolist(),
        },
        on_pick=chosen.open_head,
    )
    words = ", ".join(f"{short} {figures.WORDS[kind]}" for kind, short in figures.SHORT.items())
    st.caption(f"Framed: kept on the board. Strong frame: the chosen head. Labels: {words}.")


def _describe_targets(mostly: list[str]) -> str:
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
