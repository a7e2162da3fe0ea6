"""The card of a head, a dialog over any page: it opens from boards, graphs and figures, and has an address."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import streamlit as st

from cahp.board import HeadClusters, Pictures, contrast, mark_clusters, pack_bytes, read_component
from cahp.features.head_cards.measuring import (
    SENTENCES,
    Examples,
    describe_family,
    describe_removal,
    describe_replacement,
    measure_removal,
    stored_examples,
    stored_removals,
)
from cahp.figures import head_name
from cahp.outcomes import Outcomes
from cahp.run import Bench
from cahp.stages import nearest_heads
from cahp.ui.frame import (
    FACTS,
    Panel,
    find_text_maps,
    job_card,
    link,
    list_colourings,
    parse_head,
    put_address,
    set_head,
)
from cahp.ui.parts import clear_note, plain, problem, write_note
from cahp.ui.session import Explorer, Kind, loading_seconds, pass_seconds
from cahp.values import CahpError, Fields, Ints, JsonObject, called, digest
from cahp.words import capital, percent

#: The field of the address that opens a card, and the pages that have it.
_FIELD = "head"
_PAGES = ("Home", "Budget")
#: Session key: the value of the field that this page has written.
_WRITTEN = "card-head-written"
#: The name under which a session keeps the page of the open card.
_PAGE = "head_cards.page"
#: Nearest heads on a card.
_NEAREST = 3

#: Find the sentences on which each head differs from its family.
EXAMPLES: Kind[tuple[Bench, Ints], Examples | None] = Kind(
    lambda subject, _: stored_examples(*subject, measure=True),
    lambda subject: f"sentences-{subject[0].card.sha256}-{digest(subject[1].tobytes())}",
)
#: Evaluate the model without one head.
REMOVAL: Kind[tuple[Bench, int], Outcomes] = Kind(
    lambda subject, _: measure_removal(*subject),
    lambda subject: f"removal-{subject[0].card.sha256}-{subject[0].evaluation.sha256}-{subject[1]}",
    seconds=lambda subject: loading_seconds(subject[0]) + pass_seconds(subject[0], evaluation=1),
)

_HERE = Path(__file__).parent


def offer(explorer: Explorer, title: str, sections: Sequence[Panel]) -> None:
    """Open the card that a person or the address of the page ``title`` asks for, with the ``sections`` of features."""
    if explorer.results.run is None:
        return
    if title in _PAGES:
        _follow_address(explorer)
    if title in (*_PAGES, "Similarity"):
        explorer.memory[FACTS] = list_facts(explorer)
    if explorer.card_head is not None and explorer.memory.setdefault(_PAGE, title) != title:
        # It was left open on another page.
        _close(explorer)
    explorer.drawn_card = explorer.card_head
    if title in _PAGES:
        _write_address(explorer)
    if explorer.card_head is not None:
        name = head_name(explorer.card_head, explorer.card.heads, explorer.card.unit)
        close = partial(_close, explorer)
        st.dialog(capital(name), width="medium", on_dismiss=close)(_draw)(explorer, title, sections)


def _close(explorer: Explorer) -> None:
    explorer.card_head = None
    explorer.memory.pop(_PAGE, None)


def _follow_address(explorer: Explorer) -> None:
    """Open or close the card as an address says that a person's link or the Back button has set."""
    linked = st.query_params.get(_FIELD)
    if linked == st.session_state.get(_WRITTEN):
        return
    explorer.memory.pop(_PAGE, None)
    explorer.card_head = parse_head(linked or "", explorer.card.layers, explorer.card.heads)
    if linked and explorer.card_head is None:
        write_note(CahpError(f"The model has no {explorer.card.unit} like the one in this link; 2.0 is in layer 2."))


def _write_address(explorer: Explorer) -> None:
    value = ""
    if explorer.card_head is not None:
        value = called(explorer.card_head, explorer.card.heads)
    st.session_state[_WRITTEN] = value or None
    put_address(_FIELD, value)


# The card ----------------------------------------------------------------------------------------------------


def _draw(explorer: Explorer, title: str, sections: Sequence[Panel]) -> None:
    if explorer.card_head != explorer.drawn_card:
        # Another head was chosen on the card: only a run of the whole page changes the title and the address.
        st.rerun()
    head = explorer.card_head
    clusters = explorer.clusters
    if head is None or clusters is None:
        return
    bench = explorer.bench
    mask = explorer.mask
    labels = explorer.board.labels
    families = clusters.families
    unit = explorer.card.unit
    ordered = sorted(sections, key=lambda panel: panel.place)
    marks = mark_clusters(labels, families)
    colour = marks.colours[head]
    pictures = _find_pictures(explorer)
    with st.container(key="head-card", gap="small"):
        members = np.flatnonzero(families == families[head]).tolist()
        top = {
            "sign": marks.names[head],
            "colour": colour,
            "ink": contrast(colour),
            "line": describe_family(families, mask, head),
            "family": [_name(explorer, other) for other in members],
        }
        _draw_part(explorer, "head", top)
        for panel in ordered:
            if panel.place < 10:
                panel.draw(explorer, head)
        examples = stored_examples(bench, families)
        if examples is None:
            examples = job_card(explorer, EXAMPLES, (bench, families), name="sentences", title="Read sentences")
        rows = []
        if examples is not None:
            for example in examples[head]:
                words = SENTENCES[example.text].split()
                rows.append({"words": words, "share": percent(example.share, 0), "arcs": example.arcs})
        sentences: JsonObject = {
            "title": "Three sentences on which it differs from its family",
            "about": "Arcs lead to the word it attends to; at the right the share of its attention on other words than "
            "those of its family.",
            "colour": colour,
            "rows": rows,
        }
        maps = find_text_maps(explorer)
        if maps is not None:
            sentences["own"] = {"words": maps.words, "arcs": maps.arcs[head], "share": ""}
        if pictures is not None:
            sentences |= {"map": pack_bytes(pictures.pictures[head]), "legend": pictures.legend}
        _draw_part(explorer, "sentences", sentences)
        left, right = st.columns([2, 3], gap="medium")
        with left:
            _draw_removal(explorer, head)
        with right:
            _draw_part(explorer, "nearest", _list_nearest(explorer, clusters, head, pictures))
        st.caption(f"{plain(describe_replacement(clusters, labels, mask, head, unit))}.")
        for panel in ordered:
            if panel.place >= 10:
                panel.draw(explorer, head)
        _draw_buttons(explorer, head, title)


def _find_pictures(explorer: Explorer) -> Pictures | None:
    """Return the mean attention maps that the board can show (None: they are not measured)."""
    for row in list_colourings():
        facts = row.know(explorer)
        if facts is not None:
            painted = row.paint(facts)
            if isinstance(painted, Pictures):
                return painted
    return None


def list_facts(explorer: Explorer) -> JsonObject:
    """List for the inspector of a board the agreement without each head, what it does, and its mean map in small."""
    removals = stored_removals(explorer.bench)
    facts: JsonObject = {"removals": {str(head): outcomes["agreement"] for head, outcomes in removals.items()}}
    roles = explorer.roles
    if roles is not None and roles.scores:
        facts["roles"] = list(map(roles.tell, range(len(roles.names))))
    pictures = _find_pictures(explorer)
    if pictures is not None:
        facts |= {"maps": pack_bytes(pictures.pictures[:, ::2, ::2]), "legend": pictures.legend}
    return facts


def _draw_part(explorer: Explorer, part: str, data: Fields) -> None:
    """Draw a part of the card; a press on another head opens its card."""
    key = f"one-head-{part}"

    def open_head() -> None:
        chosen = st.session_state[key].head
        if chosen is not None and 0 <= int(chosen) < explorer.mask.keep.size:
            explorer.card_head = int(chosen)

    js, css = read_component(_HERE / "card.css", _HERE / "card.js")
    # The dialog's loop of the Tab key does not enter a shadow tree.
    component = st.components.v2.component("cahp_head_card", js=js, css=css, isolate_styles=False)
    component(key=key, data={part: data}, on_head_change=open_head, height="content")


def _name(explorer: Explorer, head: int) -> JsonObject:
    mask = explorer.mask
    return {
        "head": head,
        "name": called(head, mask.heads),
        "words": head_name(head, mask.heads, explorer.card.unit),
        "kept": bool(mask.keep.flat[head]),
        "chosen": head == explorer.card_head,
    }


def _list_nearest(explorer: Explorer, clusters: HeadClusters, head: int, pictures: Pictures | None) -> JsonObject:
    """Return the nearest heads with their distances."""
    distances = clusters.distances
    rows = []
    for other in nearest_heads(distances, head, count=_NEAREST):
        row = {**_name(explorer, other), "distance": f"{distances[head, other]:.1f}"}
        if pictures is not None:
            row["map"] = pack_bytes(pictures.pictures[other])
        rows.append(row)
    median = float(np.median(distances[np.triu_indices(len(distances), 1)]))
    about = f"with their distance; the median pair is {median:.1f} apart"
    return {"title": f"Nearest {explorer.card.unit}s", "about": about, "rows": rows}


# What its removal changes ----------------------------------------------------------------------------------------


def _draw_removal(explorer: Explorer, head: int) -> None:
    """Draw what changes without the head, or the button that measures it."""
    bench = explorer.bench
    st.markdown(f"**When only this {explorer.card.unit} is removed**")
    outcomes = stored_removals(bench).get(head)
    if outcomes is None:
        outcomes = job_card(
            explorer, REMOVAL, (bench, head), name="one-head-removal", title="Evaluate without it", offer="Measure"
        )
    if outcomes is not None:
        finding, further = describe_removal(outcomes, bench.evaluation.units)
        st.markdown(f"#### {plain(finding)}")
        st.caption(plain(f"As pruned: {further}."))


# What a person does ----------------------------------------------------------------------------------------------


def _draw_buttons(explorer: Explorer, head: int, title: str) -> None:
    shown = called(head, explorer.card.heads)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="one-head-buttons"):
        label = "Restore"
        if explorer.mask.keep.flat[head]:
            label = "Remove"
        if st.button(label, key="one-head-toggle"):
            try:
                explorer.selected = head
                explorer.board.toggle(head)
                clear_note()
                st.rerun()
            except CahpError as error:
                problem(error)
        _draw_part(explorer, "link", {"head": shown})
        if title == "Similarity":
            st.button("Choose it on this page", key="one-head-choose", on_click=_choose, args=(explorer, head))
        else:
            link("similarity", "See it on my text →", shown=shown)


def _choose(explorer: Explorer, head: int) -> None:
    set_head(head)
    _close(explorer)


DIALOG = Panel("Head card", offer, place=10)
