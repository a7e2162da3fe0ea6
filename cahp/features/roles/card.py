"""What the card of a head says first: what it attends to, and its role with the evidence."""

from __future__ import annotations

import streamlit as st

from cahp.features.roles.board import known_maps
from cahp.features.roles.glance import HELP
from cahp.features.roles.habits import KINDS, HeadMaps
from cahp.features.roles.head_figure import WORDS
from cahp.features.roles.lines import CONFIRMED, describe_ablation
from cahp.ui.frame.page import link
from cahp.ui.frame.panels import Panel
from cahp.ui.frame.running import measure_roles
from cahp.ui.parts.display import plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import ROLES as MEASURE_ROLES
from cahp.values.head_roles import NOUNS, HeadRoles, RoleAblation
from cahp.values.statistics import called
from cahp.words import capital, percent, too_close


def draw(explorer: Explorer, head: int) -> None:
    """Draw what the head attends to over many texts, and its role."""
    maps = known_maps(explorer)
    if maps is not None:
        st.markdown(f"#### {describe_target(maps, head)} on {maps.texts} {explorer.card.words.items}")
    roles = explorer.roles
    asked = explorer.work.job(MEASURE_ROLES, explorer.bench) is not None
    if roles is None and (asked or st.button("Measure its role", key="one-head-roles", type="tertiary")):
        roles = measure_roles(explorer)
    if roles is not None:
        st.caption(plain(describe_role(roles, head)), help=HELP)
        _draw_ablations(roles, head)
    if maps is None:
        chosen = called(head, explorer.card.heads)
        link("similarity", "Measure what it attends to over many texts →", view="head", shown=chosen)


def describe_target(maps: HeadMaps, head: int) -> str:
    """Describe the target that gets most of a head's attention."""
    shares = maps.shares[head]
    most = int(shares.argmax())
    return f"It attends most to {WORDS[KINDS[most]]}: {percent(float(shares[most]), 0)} of its attention"


def describe_role(roles: HeadRoles, head: int) -> str:
    """Describe the role of a head with its evidence, or that it has none."""
    named = roles.of_unit(head)
    if named:
        return f"Role: {roles.describe(head)}."
    nearest = roles.describe(head).removeprefix("none").removeprefix("; ")
    words = "No role confirmed"
    if nearest:
        words += f": {nearest}"
    return f"{words}."


def _draw_ablations(roles: HeadRoles, head: int) -> None:
    """Tell whether removing all heads of its roles confirmed them, where that was tested."""
    for ablation in roles.ablations or ():
        if ablation.role in roles.of_unit(head):
            about = f"{CONFIRMED} {capital(describe_ablation(ablation, roles.unit))}."
            st.caption(describe_verdict(ablation, roles.unit), help=plain(about))


def describe_verdict(ablation: RoleAblation, unit: str) -> str:
    """Tell whether removing all heads of a role confirmed it."""
    noun = f"{ablation.heads} {NOUNS[ablation.role]} {unit}s together"
    extra = ablation.extra
    if extra is None or ablation.confirmed is None:
        return f"Removing the {noun} cannot test this role."
    if ablation.confirmed:
        return f"Removing the {noun} confirms this role."
    return f"Removing the {noun} does not confirm this role: {too_close(extra.n, 'sequences')}."


HEADLINE = Panel("What it attends to", draw, place=0)
