"""The graph of heads, drawn by pyvis in a frame that can load and send nothing; and the head chosen in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from cahp.board.colourings import contrast
from cahp.figures.head_grid import head_name
from cahp.figures.marks import TINT, Ink, blend, community_name, ink, mark_communities
from cahp.stages.similarity import HeadGraph
from cahp.ui.frame import address, set_head
from cahp.ui.frame.address import CHOSEN_HEAD, parse_head
from cahp.ui.parts.display import cache_with
from cahp.values import HeadMask, JsonObject
from cahp.values.statistics import called

if TYPE_CHECKING:
    from pyvis.network import Network


#: Where the layout's -1..1 lies on the canvas.
_ACROSS = 330
_DOWN = 300
_HEIGHT = 490
#: The share of its community's colour in a link.
_QUIET = 0.5

_FRAME = (Path(__file__).parent / "frame.js").read_text(encoding="utf-8")
_LISTEN = (Path(__file__).parent / "listen.js").read_text(encoding="utf-8")

# Nothing may be loaded, sent or opened; the scripts are those of this very document.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"

_OUTSIDE = re.compile(
    r"<!--.*?-->|<link\b[^>]*>|<script\b[^>]*\bsrc=[^>]*>\s*</script>|//# sourceMappingURL=[^\s<]*", re.DOTALL
)


def graph_html(graph: HeadGraph, mask: HeadMask, *, unit: str = "head", dark: bool = False) -> str:
    """Write the graph as an HTML document: kept heads are solid, pruned ones tinted, coloured areas are communities.

    It contains numbers of heads only, no word of the text, and loads nothing.
    """
    network, parts = _draw(graph, mask, unit, dark=dark)
    colours = ink(dark=dark)
    values = {"COMMUNITIES": parts["communities"], "ACCENT": colours.accent, "ACROSS": _ACROSS, "DOWN": _DOWN}
    constants = "\n".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    script = f"<script>{constants}\n{_FRAME}</script>"
    return _confine(network.generate_html(notebook=False), script, colours)


def _draw(graph: HeadGraph, mask: HeadMask, unit: str, *, dark: bool) -> tuple[Network, JsonObject]:
    """Return the drawing, and its nodes, links and communities as plain data for the frame."""
    from pyvis.network import Network

    colours = ink(dark=dark)
    marks = mark_communities(graph.communities)
    kept = mask.keep.ravel().tolist()
    # With a ``font_color`` here, it would replace the fonts of the nodes.
    network = Network(height=f"{_HEIGHT}px", width="100%", bgcolor=colours.ground, cdn_resources="in_line")
    # A crowded graph has dots without names, which could not be read.
    crowded = len(kept) > 150
    shape = "dot" if crowded else "circle"
    for head, (across, down) in enumerate(graph.positions.tolist()):
        colour = marks.colours[head]
        state = "pruned"
        fill = blend(colour, colours.ground, TINT)
        border = blend(colour, colours.ground, _QUIET)
        if kept[head]:
            state = "kept"
            fill = colour
            # Kept heads that overlap stay apart.
            border = colours.ground
        label = called(head, mask.heads)
        if crowded:
            label = " "
        look = {"background": fill, "border": border}
        network.add_node(
            head,
            label=label,
            title=f"{head_name(head, mask.heads, unit)}, community {marks.names[head]}, {state}",
            x=round(across * _ACROSS),
            y=round(down * _DOWN),
            shape=shape,
            size=9,
            color={**look, "highlight": {**look, "border": colours.accent}, "hover": look},
            borderWidth=1,
            borderWidthSelected=6,
            # What the frame's own script lights together.
            community=int(graph.communities[head]),
            # The second eight communities have the hues of the first eight, and broken outlines.
            shapeProperties={"borderDashes": [4, 3] * bool(marks.striped[head]) or False},
            # One size for all, wide enough for the longest name.
            widthConstraint=26,
            font={"size": 13, "color": contrast(fill)},
        )
    for (first, second), similarity, backbone in zip(
        graph.edges.tolist(), graph.similarity.tolist(), graph.backbone.tolist(), strict=True
    ):
        colour = colours.faint
        if graph.communities[first] == graph.communities[second]:
            colour = blend(marks.colours[first], colours.ground, _QUIET)
        network.add_edge(
            first,
            second,
            width=4 * similarity,
            color=colour,
            dashes=backbone,
            title=f"similarity {similarity:.2f}",
        )
    network.toggle_physics(False)
    network.options.edges.smooth.enabled = False
    # Over a small graph the wheel moves the page on; a crowded one needs it to be read.
    network.options.interaction.__dict__.update(hover=True, tooltipDelay=120, dragNodes=False, zoomView=crowded)
    hues = dict(zip(graph.communities.tolist(), marks.colours, strict=True))
    named = [(community_name(group), hues[group]) for group in sorted(hues)]
    return network, {"nodes": network.nodes, "edges": network.edges, "communities": named}


def _confine(document: str, script: str, colours: Ink) -> str:
    """Remove what a pyvis document loads: pyvis links style sheets and scripts even when told not to."""
    inner = _OUTSIDE.sub("", document)
    # What is left are names of licences and namespaces in vis-network's own text.
    inner = re.sub(r"\bhttps?://", "", inner)
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>html, body {{ margin: 0; overflow: hidden; background: {colours.ground}; }}"
        f" body {{ color: {colours.text}; }}"
        " center { display: none; } #mynetwork { border: 0 !important; }"
        " .vis-tooltip { font-family: system-ui !important; }"
        # It would stay after a tap, and when the mouse has left the frame fast.
        " html:not(:hover) .vis-tooltip { display: none; }"
        " @media (hover: none) { .vis-tooltip { display: none; } }</style>"
    )
    inner = inner.replace('<meta charset="utf-8">', f'<meta charset="utf-8">{head}', 1)
    # The last one: vis-network's own text has such a tag in a string.
    before, tag, after = inner.rpartition("</body>")
    return before + script + tag + after


def show_graph(
    first: HeadGraph, graph: HeadGraph, mask: HeadMask, head: int, *, unit: str, dark: bool, alt: str
) -> None:
    """Draw the graph with ``head`` marked; a click on a node chooses its head, then the page runs.

    The frame is that of the ``first`` graph of a text. It gets the others as messages, so that heads move to their new
    places.
    """
    heads = len(graph.communities)
    with st.container(key="head-graph", gap=None):
        html = cache_with(first, ("html", mask.sha256, dark), lambda: graph_html(first, mask, unit=unit, dark=dark))
        st.iframe(html, height=_HEIGHT, alt=alt)

    def choose() -> None:
        clicked = st.session_state["head-graph-ear"].head
        if clicked is not None and 0 <= int(clicked) < heads:
            set_head(int(clicked))

    parts = cache_with(graph, ("parts", mask.sha256, dark), lambda: _draw(graph, mask, unit, dark=dark)[1])
    listen = st.components.v2.component("cahp_head_graph", js=_LISTEN)
    listen(
        key="head-graph-ear",
        data={"chosen": head, "heads": heads, "graph": parts},
        on_head_change=choose,
        height="content",
    )


# The chosen head, and the fields of a link -------------------------------------------------------------------


#: Session key: the name of the view.
VIEW = "similarity-view"


def choose_head(mask: HeadMask, default: Callable[[], int]) -> int:
    """Return the head to show: that of a followed link, or the chosen one, or else ``default()``."""
    chosen = parse_head(address.linked("shown"), mask.layers, mask.heads)
    if chosen is None:
        chosen = st.session_state.get(CHOSEN_HEAD)
    if chosen is None or chosen >= mask.keep.size:
        chosen = default()
    st.session_state[CHOSEN_HEAD] = chosen = int(chosen)
    address.put("shown", called(chosen, mask.heads))
    return chosen


def draw_head_box(mask: HeadMask, unit: str) -> None:
    """Draw the box of all heads, or another ``unit``."""
    st.selectbox(
        "Head",
        range(mask.keep.size),
        # A name that changed with the mask or the graph would no longer be found when a run is interrupted.
        format_func=lambda head: head_name(head, mask.heads, unit),
        key=CHOSEN_HEAD,
        persist_state="session",
        label_visibility="collapsed",
    )
