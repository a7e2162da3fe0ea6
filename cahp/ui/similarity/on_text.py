"""Heads compared on texts that a person types: graph, communities, the chosen head, distances, and several texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import streamlit as st

from cahp.figures import palette
from cahp.figures import similarity as figures
from cahp.figures.head_grid import grid_figure, head_name
from cahp.figures.similarity import attention_figure
from cahp.stages.similarity import HeadGraph, agreement, largest_changes, nearest_heads, uncovered_communities
from cahp.ui.parts import display
from cahp.ui.parts.inputs import has_words
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen
from cahp.ui.similarity.comparing import FORMULA, HOW, Seen, compare_heads, draw_boxes
from cahp.ui.similarity.graph import show_graph
from cahp.values import HeadMask

#: The width in pixels that the grid's squares are drawn for; the page's style keeps its column from being narrower.
_GRID = 370


def draw(explorer: Explorer) -> None:
    """Draw the boxes for texts and the heads compared on them."""
    texts = draw_boxes(explorer)
    if not all(has_words(text) for text in texts):
        st.info("Type a text, or insert an example. The heads are compared once every box has a text.")
        return
    seen = compare_heads(explorer, texts)
    if seen is None:
        return
    shown = seen[0]
    if len(seen) > 1:
        place = st.segmented_control(
            "Text on screen",
            range(len(seen)),
            default=0,
            required=True,
            format_func=lambda place: f"Text {place + 1}",
            key="similarity-shown",
            persist_state="session",
        )
        shown = seen[place or 0]
    if shown.attention.cut:
        st.warning(
            f"This text is too long for the model: its first {len(shown.attention.tokens):,} tokens are compared, "
            f"{shown.attention.cut:,} more were truncated."
        )
    # At first one of the two heads that attend most alike.
    apart = shown.distances + np.diag(np.full(len(shown.distances), np.inf))
    head = chosen.settle(explorer.mask, lambda: int(np.argmin(apart)) // len(apart))
    graph = _draw_graph(explorer, shown, head)
    _draw_head(shown, explorer.mask, head)
    picture, finding = figures.matrix(shown.distances, graph.communities, explorer.mask, dark=display.is_dark())
    display.show(
        picture,
        title=finding,
        help="Each cell is a pair of heads; framed blocks along the diagonal are the communities. Orange squares on "
        f"the diagonal mark kept heads; click one to choose it. {HOW}",
        formula=FORMULA,
        name="distances",
        data=lambda: figures.distance_table(shown.distances, explorer.mask.heads),
        on_pick=chosen.choose,
    )
    if len(seen) > 1:
        _draw_changes(explorer, seen)


def _draw_graph(explorer: Explorer, seen: Seen, head: int) -> HeadGraph:
    """Draw graph and grid side by side with ``head`` marked, and return the graph of the chosen threshold."""
    mask, dark = explorer.mask, display.is_dark()
    left, right = st.container(key="similarity-overview").columns([3, 2], gap="medium")
    panel = left.container()
    with left:
        graph = seen.graph(_choose_threshold(seen))
    covered = _describe_coverage(explorer, graph)
    with panel:
        display.heading(
            covered,
            name="head-graph",
            help="Each node is a head (layer.head); filled nodes are kept, hollow ones pruned; large numbers name "
            f"communities. {int((~graph.backbone).sum())} solid links join heads above the threshold, thicker "
            "where more similar; dashed links belong to a tree that connects the graph. Communities (Louvain) have "
            f"more links inside than random links would give, modularity {graph.modularity:.2f}. Distances in the "
            f"drawing are approximate. Hover to highlight a community, click a node to choose its head. {HOW}",
            formula=FORMULA,
            data=lambda: {
                "first": [head_name(head, mask.heads) for head in graph.edges[:, 0].tolist()],
                "second": [head_name(head, mask.heads) for head in graph.edges[:, 1].tolist()],
                "similarity": graph.similarity.round(4).tolist(),
                "above threshold": (~graph.backbone).tolist(),
            },
        )
        show_graph(graph, mask, head, dark=dark, alt=covered)
    with right:
        lit = int(graph.communities[head])
        display.show(
            grid_figure(
                mask, graph.communities, grouping=palette.COMMUNITIES, selected=head, lit=lit, dark=dark, width=_GRID
            ),
            title="Communities by layer",
            help="Each square is a head: solid ones are kept, hollow ones pruned. Colour and number name the community "
            "on this text; the eight largest have a colour, the next eight the same colour crossed. The thick frame is "
            "the chosen head, thin frames are its community; click another head to choose it.",
            name="communities",
            data=lambda: figures.heads_table(graph.communities, mask),
            on_pick=chosen.choose,
            alt=covered,
        )
        chosen.box(mask, graph)
        table = figures.communities_table(graph.communities, mask)
        st.dataframe(table, hide_index=True, height=178, key="similarity-table")
    return graph


def _choose_threshold(seen: Seen) -> float:
    similar = 1 - seen.distances[np.triu_indices(len(seen.distances), 1)]
    low, high = np.floor(100 * similar.min(initial=1)) / 100, np.ceil(100 * similar.max(initial=0)) / 100
    if high - low < 0.02:
        return seen.threshold
    return float(
        st.slider(
            "Link heads with a similarity of at least",
            float(low),
            float(high),
            float(np.clip(round(seen.threshold, 2), low, high)),
            0.01,
            key=f"similarity-threshold-{seen.number}",
            help="A high threshold shows the strongest similarities, a low one the whole network. Communities follow "
            "from the links.",
        )
    )


def _describe_coverage(explorer: Explorer, graph: HeadGraph) -> str:
    """Describe whether the kept heads cover every community of this text."""
    groups = int(graph.communities.max()) + 1
    if explorer.results.run is None:
        return f"{groups} groups of heads attend alike on this text"
    kept, missed = explorer.mask.count, uncovered_communities(graph.communities, explorer.mask)
    if not missed:
        return f"The {kept} kept heads cover all {groups} groups of heads on this text"
    sizes = np.bincount(graph.communities)
    named = ", ".join(f"{palette.COMMUNITIES.sign(group)} ({sizes[group]} heads)" for group in missed[:6])
    more = f" and {len(missed) - 6} more" if len(missed) > 6 else ""
    return (
        f"The {kept} kept heads cover {groups - len(missed)} of {groups} groups of heads on this text; "
        f"not covered: {named}{more}"
    )


def _draw_head(seen: Seen, mask: HeadMask, head: int) -> None:
    """Draw the chosen head, the heads that attend alike, and their layers."""
    st.button("More about this head", key="open-head", on_click=chosen.open_head)
    attention, apart, heads, dark = seen.attention, seen.distances, mask.heads, display.is_dark()
    weights, name = attention.by_head[head], head_name(head, heads)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        display.show(
            attention_figure(attention.tokens, weights, dark=dark, height=470),
            title=f"{name.capitalize()} {figures.habit(weights)}",
            help="Each row is a query token, each column a token it attends to; a row sums to 1. The scale stretches "
            "weak attention so that it shows beside strong attention.",
            name="attention",
            data=lambda: figures.attention_table(attention.tokens, weights),
            alt=f"Attention of {name} over {len(attention.tokens)} tokens.",
        )
    with right:
        picture, finding = figures.among_layers(apart, mask, head, dark=dark)
        display.show(
            picture,
            title=finding,
            help="Each square is a head in the row of its layer; the farther left, the more it attends like the chosen "
            "head (star). Click a square to choose that head.",
            name="among-layers",
            data=lambda: {**figures.heads_table(seen.graph().communities, mask), "distance": apart[head].tolist()},
            on_pick=chosen.choose,
        )
    near = nearest_heads(apart, head, count=3)
    if near:
        state = "kept" if mask.keep.flat[near[0]] else "pruned"
        display.show(
            figures.beside(attention, apart, [head, *near], heads=heads, dark=dark),
            title=f"{head_name(near[0], heads).capitalize()} ({state}) attends most alike: "
            f"distance {apart[head, near[0]]:.2f} of at most 1",
            help="The attention maps of the chosen head and of the three heads that attend most alike on this text, "
            f"with one colour scale. {HOW}",
            formula=FORMULA,
            name="nearest",
            data={
                "head": [head_name(other, heads) for other in near],
                "distance": [round(float(apart[head, other]), 4) for other in near],
                "kept": [bool(mask.keep.flat[other]) for other in near],
            },
        )


def _draw_changes(explorer: Explorer, seen: Sequence[Seen]) -> None:
    """Draw the changes between two of the texts."""
    st.header("Changes between the texts")
    pairs = list(combinations(range(len(seen)), 2))
    chosen = pairs[0]
    if len(pairs) > 1:
        place = st.segmented_control(
            "Texts",
            range(len(pairs)),
            default=0,
            required=True,
            format_func=lambda place: f"{pairs[place][0] + 1} and {pairs[place][1] + 1}",
            key=f"similarity-of-{len(seen)}",
        )
        chosen = pairs[place or 0]
    one, other = (seen[place] for place in chosen)
    names = (f"Text {chosen[0] + 1}", f"Text {chosen[1] + 1}")
    heads, groups = explorer.card.heads, (one.graph().communities, other.graph().communities)
    moved = np.abs(one.distances - other.distances)[np.triu_indices(len(one.distances), 1)]
    same, change, missing = st.columns(3)
    same.metric(
        "Agreement of the communities",
        f"{agreement(*groups):.2f}",
        help="Adjusted Rand index, each text at its default threshold: 1 the same groups, 0 as for random groups.",
    )
    change.metric("Mean change of a distance", f"{moved.mean() if len(moved) else 0:.2f}", help="Over all pairs, 0..1.")
    if explorer.results.run is not None:
        missing.metric(
            "Communities without a kept head",
            " and ".join(str(len(uncovered_communities(group, explorer.mask))) for group in groups),
            help=f"On {names[0]} and on {names[1]}.",
        )
    found = largest_changes(one.distances, other.distances, count=12)
    picture, finding = figures.dumbbells(found, names, heads=heads, dark=display.is_dark())
    display.show(
        picture,
        title=finding,
        help="The pairs of heads whose distance differs most between the two texts: the circle is the first text, the "
        f"square the second. {HOW}",
        formula=FORMULA,
        name="changes",
        data={
            "first head": [head_name(pair.first, heads) for pair in found],
            "second head": [head_name(pair.second, heads) for pair in found],
            names[0]: [round(pair.before, 4) for pair in found],
            names[1]: [round(pair.after, 4) for pair in found],
        },
    )
