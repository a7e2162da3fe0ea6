"""The map of what heads do on a text: its groups, its data for the script, and the head chosen on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from cahp.board.colourings import COLOURS, NEUTRAL, pack_bytes, tints
from cahp.board.contents import read_component
from cahp.figures.marks import ink, mark_communities
from cahp.files import plain_json
from cahp.stages.similarity import HeadGraph
from cahp.ui.frame import FACTS, address, set_head
from cahp.ui.frame.address import CHOSEN_HEAD, parse_head
from cahp.ui.parts.display import cache_with, is_dark, note_refusal
from cahp.ui.session.explorer import Explorer
from cahp.values import Floats, HeadMask, Ints, JsonObject
from cahp.values.statistics import called

if TYPE_CHECKING:
    from cahp.ui.similarity.page import ComparedHeads

_HERE = Path(__file__).parent
#: Session keys: the component, and the number of groups that a person chose.
_KEY = "similarity-map"
GROUPS = "similarity-groups"
#: The bytes of all pictures of a map, about, and the least and the most tokens along the side of one.
_BYTES = 150_000
_SIDES = (12, 40)
_NUMBERS = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]

# Groups of heads, and what they do --------------------------------------------------------------------------------


def join_heads(distances: Floats, communities: Ints) -> Floats:
    """Return the steps ``(N - 1, 4)`` that join all heads, the most alike first, as SciPy's ``linkage`` has them.

    The clusters of two steps are joined by the mean distance of their heads. All heads of a community are joined before
    any communities are.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    if len(distances) < 2:
        return np.zeros((0, 4))
    apart = communities[:, None] != communities
    # A distance is at most 1.
    return np.asarray(linkage(squareform(distances + 2.0 * apart, checks=False), "average"))


def cut_groups(steps: Floats, count: int) -> Ints:
    """Return the group of each head ``(N,)`` where ``count`` groups are left, numbered from the largest."""
    from scipy.cluster.hierarchy import cut_tree

    if not len(steps):
        return np.zeros(1, dtype=np.int64)
    labels = cut_tree(steps, n_clusters=count).ravel()
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.asarray(order.argsort()[labels])


def describe_groups(groups: Ints, mask: HeadMask, unit: str) -> str:
    """Describe how many ``groups (N,)`` there are, and how many of them have a kept head."""
    count = int(groups.max()) + 1
    things = "things"
    if count == 1:
        things = "thing"
    sentence = f"{mask.keep.size} {unit}s do {_in_words(count)} {things} with it"
    if mask.is_full:
        return sentence
    kept = len(np.unique(groups[mask.flat]))
    return f"{sentence}; the {mask.count} kept do {_in_words(kept)}"


def _in_words(count: int) -> str:
    return [*_NUMBERS, str(count)][min(count, len(_NUMBERS))]


# The map ----------------------------------------------------------------------------------------------------------


def _describe_text(compared: ComparedHeads, graph: HeadGraph, steps: Floats) -> JsonObject:
    """Return what the map shows of a text under every mask."""
    maps = compared.attention.by_head
    side = min(maps.shape[1], int(np.clip(np.sqrt(_BYTES / len(maps)), *_SIDES)))
    shown = maps[:, :side, :side]
    tops = np.maximum(shown.max(axis=(1, 2)), 1e-6)
    described: JsonObject = plain_json(
        {
            "number": compared.number,
            "tokens": compared.attention.tokens[:side],
            "length": maps.shape[1],
            "maps": pack_bytes((shown / tops[:, None, None] * 255).round().astype(np.uint8)),
            "tops": tops,
            "places": graph.positions.round(3),
            "edges": graph.edges[~graph.backbone],
            "weights": graph.similarity[~graph.backbone].round(3),
            "merges": steps[:, :2],
            "suggested": graph.communities.max() + 1,
        }
    )
    return described


def show_map(
    explorer: Explorer, compared: ComparedHeads, graph: HeadGraph, steps: Floats, head: int, groups: int
) -> None:
    """Draw the map of ``groups`` groups, joined by ``steps``, with ``head`` marked, and do what a person does on it."""
    mask = explorer.mask
    card = explorer.card
    colours = [NEUTRAL] * mask.keep.size
    if explorer.clusters is not None:
        colours = np.take(COLOURS, tints(explorer.clusters.families)).tolist()
    data = {
        **cache_with(compared, "map", lambda: _describe_text(compared, graph, steps)),
        "unit": card.unit,
        "layer": mask.heads,
        "kept": mask.keep.ravel().tolist(),
        "colours": colours,
        "facts": plain_json(explorer.memory.get(FACTS, {})),
        "answers": card.words.answers,
        "items": card.words.items,
        "cards": explorer.results.run is not None,
        "head": head,
        "groups": groups,
        "scale": ink(dark=is_dark()).scale,
    }

    def act() -> None:
        event = st.session_state[_KEY].event
        if event is not None:
            _act(explorer, steps, event["kind"], int(event["head"]), int(event["groups"]))

    js, css = read_component(_HERE / "map.css", _HERE / "map.js")
    component = st.components.v2.component("cahp_head_map", js=js, css=css)
    component(key=_KEY, data=data, on_event_change=act, height="content")


def _act(explorer: Explorer, steps: Floats, kind: str, head: int, groups: int) -> None:
    """Do what a person asked for: another head or number of groups, a card, or a group without its kept heads."""
    if not (0 <= head < explorer.mask.keep.size and 0 < groups <= len(steps) + 1):
        return
    if kind == "groups":
        st.session_state[GROUPS] = groups
    elif kind == "head":
        set_head(head)
    elif kind == "card":
        explorer.card_head = head
    else:
        keep = explorer.mask.keep.copy()
        labels = cut_groups(steps, groups)
        members = np.flatnonzero(labels == labels[head])
        # A group of which none is kept is restored.
        keep.flat[members] = not keep.flat[members].any()
        with note_refusal():
            explorer.board.set_mask(HeadMask(keep))


# The network as a file --------------------------------------------------------------------------------------------

#: What pyvis' pages load from elsewhere: they link style sheets and scripts even when told not to.
_OUTSIDE = re.compile(r"<!--.*?-->|<link\b[^>]*>|<script\b[^>]*\bsrc=[^>]*>\s*</script>", re.DOTALL)
#: Instead: nothing may be loaded. The heading is there twice.
_INSIDE = """<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src 'none';
script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:">
<style>center ~ center { display: none; } h1 { font: 16px system-ui, sans-serif; }</style>"""


def write_network(graph: HeadGraph, groups: Ints, mask: HeadMask, unit: str) -> bytes:
    """Write a web page with the heads in the colours of ``groups (N,)``, joined above the threshold of the graph.

    It loads nothing, and has numbers of heads only, no word of the text.
    """
    from pyvis.network import Network

    heads = range(mask.keep.size)
    across, down = (500 * graph.positions.T).tolist()
    title = f"Which {unit}s attend alike on a text? Colours: groups; large: kept."
    network = Network(height="90vh", heading=title, cdn_resources="in_line")
    network.add_nodes(
        heads,
        label=[called(head, mask.heads) for head in heads],
        x=across,
        y=down,
        size=(10 + 10 * mask.keep.ravel()).tolist(),
        color=mark_communities(groups).colours,
    )
    network.add_edges(graph.edges[~graph.backbone].tolist())
    network.toggle_physics(False)
    page = _OUTSIDE.sub("", network.generate_html())
    return page.replace('<meta charset="utf-8">', _INSIDE, 1).encode()


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
