"""Who covers for a head, on its card and as a colouring of the board."""

import streamlit as st

from cahp.features.anatomy import ANATOMY, PARTS, Anatomy, describe_cover, draw_parts, mark_cover, table_of_costs
from cahp.figures import head_name
from cahp.show import Figure
from cahp.ui.frame import BoardColouring, Panel, draw_offer, find_record
from cahp.ui.parts import draw_blocks, plain
from cahp.ui.session import Explorer
from cahp.words import percent


def _find(explorer: Explorer) -> Anatomy | None:
    return find_record(explorer, ANATOMY)


def draw_card(explorer: Explorer, head: int) -> None:
    """Draw in the card of a head what its output is made of, and what its removal costs."""
    if ANATOMY.refuses(explorer.card) is not None:
        return
    record = _find(explorer)
    unit = explorer.card.unit
    if record is None:
        draw_offer(ANATOMY, explorer, place="card", label=f"Measure who covers for each {unit}")
        return
    row = record.rows[head]
    parts = ", ".join(f"{percent(getattr(row, part), 0)} {words}" for part, (words, _) in PARTS.items())
    st.markdown(f"**{plain(describe_cover(row, head, record.heads, unit))}.**  \nWhat it writes: {parts}.")
    title = "What its output is made of"
    help = (
        f"Shares of the squared length of what the {unit} writes. Of the words, the token itself tells "
        f"{percent(row.token, 0)}, those beside it {percent(row.neighbours, 0)} more, and running means "
        f"{percent(row.means, 0)} more."
    )
    names = [head_name(head, record.heads, unit)]
    data: dict[str, list[str | float]] = {"part": [*PARTS], "share": [getattr(row, part) for part in PARTS]}
    figure = Figure(title, lambda _: draw_parts([row], names, 1), help, data, "head-anatomy")
    with st.expander("Its parts and costs, drawn"):
        draw_blocks([figure, table_of_costs(row)])


CARD = Panel("Who covers for it", draw_card, place=-1)
COVER = BoardColouring("anatomy", "who covers for it", mark_cover, _find)
