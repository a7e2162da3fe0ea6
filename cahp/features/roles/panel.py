"""What the explorer shows of roles and of what heads attend to: a tab, a view of My text, cards and colourings."""

from operator import attrgetter

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp.board import Pictures
from cahp.features.roles.habits import TEXTS, HeadMaps, measure_maps, stored_maps
from cahp.features.roles.section import ROLES_OF_HEADS, mark_roles
from cahp.figures import draw, heat_map, ink
from cahp.run import Bench, MaskSubject
from cahp.show import Figure
from cahp.tasks import NEXT_TOKEN
from cahp.ui.frame import BoardColouring, Panel, job_card, link, measure_roles
from cahp.ui.parts import draw_blocks, plain
from cahp.ui.session import ROLES as MEASURE_ROLES, Explorer, Kind, pass_seconds
from cahp.values import HeadRoles, called


def _paint_maps(maps: HeadMaps) -> Pictures:
    return Pictures(maps.pictures, f"Mean attention, n = {maps.texts}: rows to columns")


#: Measure what the heads attend to.
HABITS: Kind[Bench, HeadMaps] = Kind(
    lambda bench, _: measure_maps(bench),
    lambda bench: f"habits-{bench.card.sha256[:16]}-{bench.evaluation.sha256[:16]}",
    awaited=False,
    seconds=lambda bench: pass_seconds(bench, evaluation=min(1.0, TEXTS / len(bench.evaluation))),
)
#: The name under which maps are kept with the results.
_MAPS = "roles.maps"


def known_maps(explorer: Explorer) -> HeadMaps | None:
    """Return what the heads attend to, measured in this session or before, or bundled (None: not measured)."""
    job = explorer.work.job(HABITS, explorer.bench)
    if job is not None and job.result is not None:
        return job.result
    return explorer.results.once(_MAPS, lambda: stored_maps(explorer.bench))


ATTENTION = BoardColouring("attention", "what they attend to", _paint_maps, known_maps)
ROLE = BoardColouring("roles", "roles", mark_roles, attrgetter("roles"), MEASURE_ROLES, NEXT_TOKEN.name)


#: What a role is, in words.
HELP = (
    "A head has a role if a large share of its attention goes to one kind of token, and more than to tokens drawn at "
    "random: chance gives any head of the model a role with a probability of 5 %. Roles are measured on repeated "
    "random tokens and, of language models, on questions about short texts of three kinds."
)


def draw_head(explorer: Explorer, head: int) -> None:
    """Draw what a head attends to over many texts; a link to this view opens it again."""
    roles = measure_roles(explorer)
    if roles is not None:
        _draw_role(roles, head)
    maps = known_maps(explorer)
    if maps is None:
        maps = job_card(explorer, HABITS, explorer.bench, name="habits", title="Measure attention targets")
    if maps is None:
        return
    title = f"Its mean attention map over {maps.texts} {explorer.card.words.items}"
    picture = maps.pictures[head]
    columns = {f"to {place}": column.tolist() for place, column in enumerate(picture.T)}
    help = (
        "The mean attention map, each text resized to one size: rows are query tokens, columns their targets. "
        "A diagonal line: the head attends to neighbours. A column: it attends to one position."
    )
    draw_blocks([Figure(title, lambda dark: draw_picture(picture, dark=dark), help, columns, "head-pattern")])


def _draw_role(roles: HeadRoles, head: int) -> None:
    st.markdown(f"**Role:** {plain(roles.describe(head))}.", help=HELP)


def draw_picture(picture: NDArray[np.uint8], *, dark: bool) -> object:
    """Draw a head's mean attention map ``(B, B)`` over positions of a text."""
    along = (np.arange(len(picture)) + 0.5) * 100 / len(picture)
    axis = {"range": [0, 100], "showgrid": False, "zeroline": False, "constrain": "domain"}
    return draw(
        [heat_map(picture, ink(dark=dark).scale, x=along, y=along, zmin=0)],
        x={**axis, "title": "position attended to (% of the text)"},
        y={**axis, "range": [100, 0], "title": "position that attends (%)", "scaleanchor": "x"},
        height=330,
    )


def draw_card(explorer: Explorer, head: int) -> None:
    """Draw in the card of a head its role."""
    roles = explorer.roles
    if roles is None:
        offer = "Measure its role"
        roles = job_card(explorer, MEASURE_ROLES, explorer.bench, name="one-head-roles", offer=offer, type="tertiary")
    if roles is not None:
        _draw_role(roles, head)
    if known_maps(explorer) is None:
        chosen = called(head, explorer.card.heads)
        link("similarity", "Measure what it attends to over many texts →", view="head", shown=chosen)


def draw_tab(explorer: Explorer) -> None:
    """Draw the roles of the model's heads, and which of them the mask on the board keeps."""
    roles = measure_roles(explorer)
    if roles is None:
        return
    subject = MaskSubject(explorer.mask, explorer.recovery.ready, explorer.card.unit)
    draw_blocks(ROLES_OF_HEADS.show(roles, subject))


ONE_HEAD = Panel("Over all texts", draw_head, place=40, name="head")
HEADLINE = Panel("What it attends to", draw_card, place=0)
TAB = Panel("Roles", draw_tab, place=40)
