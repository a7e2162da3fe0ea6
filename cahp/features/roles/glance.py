"""Heads over the evaluation texts: one head, and all heads at a glance; computed by the worker, kept in the store."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.features.roles import head_figure as figures
from cahp.features.roles.board import HABITS, known_maps
from cahp.features.roles.habits import HeadHabits, mean_over_texts
from cahp.figures.head_grid import head_name, places
from cahp.ui.frame.panels import Panel
from cahp.ui.frame.running import job_card, measure_roles
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen
from cahp.values.head_roles import NO_ROLE, NOUNS, ROLES, HeadRoles
from cahp.words import number, percent, span

#: What a role is, in words.
HELP = (
    "A head has a role if a large share of its attention goes to one kind of token, and more than to tokens drawn at "
    "random: chance gives any head of the model a role with a probability of 5 %. Roles are measured on repeated "
    "random tokens and, of language models, on questions about short texts of three kinds."
)


def _measure_habits(explorer: Explorer) -> HeadHabits | None:
    label = "Measure attention targets"
    return job_card(explorer, HABITS, explorer.bench, name="habits", title=label, asks_for_long=label)


# One head ----------------------------------------------------------------------------------------------------


def draw_head(explorer: Explorer, head: int) -> None:
    """Draw what a head attends to; a link to this view opens it again."""
    roles = measure_roles(explorer)
    if roles is not None:
        st.markdown(f"**Role over random tokens:** {roles.describe(head)}.", help=HELP)
    habits = _measure_habits(explorer)
    if habits is None:
        return
    name = head_name(head, explorer.mask.heads, explorer.card.unit).capitalize()
    dark = display.is_dark()
    shares = habits.of(head)
    breadth = mean_over_texts(habits.breadth[:, head])
    kind = max(shares, key=lambda kind: shares[kind].value)
    most = shares[kind]
    table: dict[str, list[Any]] = {"attends to": [], "share": [], "low": [], "high": []}
    for target, share in shares.items():
        table["attends to"].append(figures.WORDS[target])
        table["share"].append(round(share.value, 5))
        table["low"].append(round(share.low, 5))
        table["high"].append(round(share.high, 5))
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            figures.shares_figure(shares, dark=dark),
            title=f"{name} gives most of its attention to {figures.WORDS[kind]}: {percent(most.value, 0)} "
            f"({span(100 * most.low, 100 * most.high)}, n = {habits.texts} {explorer.card.words.items})",
            help="The targets of its attention, averaged over query tokens and texts. Each weight counts for the first "
            "target that fits: the first token, a separator (another special token), the token itself, the token "
            "before or after, punctuation, or any other word. Lines are 95 % intervals of the mean over texts.",
            name="head-habits",
            data=table,
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


def draw_all(explorer: Explorer, head: int) -> None:
    """Draw the mean attention map of every head, layers by heads; a click on one opens its head."""
    mask = explorer.mask
    roles = measure_roles(explorer)
    if roles is None or (known_maps(explorer) is None and _measure_habits(explorer) is None):
        return
    maps = known_maps(explorer)
    assert maps is not None
    dark = display.is_dark()
    display.show(
        cache_with(
            maps,
            ("glance", mask.sha256, head, dark),
            lambda: figures.glance_figure(maps.pictures, roles, mask, selected=head, dark=dark),
        ),
        title=_count_roles(roles, explorer.card.unit),
        help=f"The mean attention map of every head over {maps.texts} evaluation {explorer.card.words.items}, each "
        "resized to one size. Rows are query tokens, columns their targets; each head has its own scale. A frame "
        f"marks a kept head, the strong frame the chosen one. The label is its role. Click a head for its shares with "
        f"intervals. {HELP}",
        name="glance",
        data=lambda: {
            **places(mask.layers, mask.heads),
            **roles.columns,
            **{kind: maps.shares[:, place].round(5).tolist() for place, kind in enumerate(figures.WORDS)},
            "kept": mask.keep.ravel().tolist(),
        },
        on_pick=chosen.open_head,
    )
    words = ", ".join(f"{ROLES[name].short} {NOUNS[name]}" for name in roles.scores)
    st.caption(f"Framed: kept on the board. Strong frame: the chosen head. Labels: {words}; no label: no role.")


def _count_roles(roles: HeadRoles, unit: str) -> str:
    counts = dict(roles.counts)
    without = counts.pop(NO_ROLE)
    common = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    named = ", ".join(f"{counts[name]} {NOUNS[name]}" for name in common) or "0"
    return f"{sum(counts.values())} of {len(roles.names)} {unit}s have a role: {named}; without one: {without}"


ONE_HEAD = Panel("Over all texts", draw_head, place=40, name="head")
ALL_HEADS = Panel("All at a glance", draw_all, place=50, name="all")
