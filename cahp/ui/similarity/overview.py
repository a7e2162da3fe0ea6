"""All heads on one text: the graph of those that attend alike, its communities among the layers, all distances."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cahp.figures import palette
from cahp.figures import similarity as figures
from cahp.figures.head_grid import grid_figure, head_name
from cahp.stages.similarity import HeadGraph, uncovered_communities
from cahp.ui.parts import display
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import chosen
from cahp.ui.similarity.comparing import FORMULA, HOW, Seen
from cahp.ui.similarity.graph import graph_html, show_graph
from cahp.values import HeadMask

#: The width in pixels that the grid's squares are drawn for; the page's style keeps its column from being narrower.
_GRID = 370


def draw(explorer: Explorer, seen: Seen, head: int) -> HeadGraph:
    """Draw graph and grid side by side with ``head`` marked, and return the graph of the chosen threshold."""
    mask, dark = explorer.mask, display.is_dark()
    left, right = st.container(key="similarity-overview").columns([3, 2], gap="medium")
    panel = left.container()
    with left:
        graph = seen.graph(_threshold(seen))
    covered = _coverage(explorer, graph)
    with panel:
        _graph_panel(graph, mask, head, covered, dark)
    with right:
        display.show(
            grid_figure(
                mask,
                graph.communities,
                grouping=palette.COMMUNITIES,
                selected=head,
                lit=int(graph.communities[head]),
                dark=dark,
                width=_GRID,
            ),
            title="Communities by layer",
            help=(
                "Each square is a head: solid ones are kept, hollow ones pruned. Colour and number name the "
                "community on this text; the eight largest have a colour, the next eight the same colour crossed. "
                "The thick frame is the chosen head, thin frames are its community; click another head."
            ),
            name="communities",
            data=lambda: figures.heads_table(graph.communities, mask),
            on_pick=chosen.choose,
            alt=covered,
        )
        chosen.box(mask, graph)
        st.dataframe(
            figures.communities_table(graph.communities, mask),
            hide_index=True,
            height=178,
            key="similarity-table",
        )
    return graph


def draw_matrix(seen: Seen, graph: HeadGraph, mask: HeadMask) -> None:
    """Draw all distances, ordered by community."""
    picture, finding = figures.matrix(seen.distances, graph.communities, mask, dark=display.is_dark())
    display.show(
        picture,
        title=finding,
        help="Each cell is a pair of heads; framed blocks along the diagonal are the communities. Orange squares on "
        f"the diagonal mark kept heads; click one to choose it. {HOW}",
        formula=FORMULA,
        name="distances",
        data=lambda: figures.distance_table(seen.distances, mask.heads),
        on_pick=chosen.choose,
    )


def _threshold(seen: Seen) -> float:
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


def _coverage(explorer: Explorer, graph: HeadGraph) -> str:
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


def _graph_panel(graph: HeadGraph, mask: HeadMask, head: int, covered: str, dark: bool) -> None:
    display.heading(
        covered,
        name="head-graph",
        help=(
            "Each node is a head (layer.head); filled nodes are kept, hollow ones pruned; large numbers name "
            f"communities. {int((~graph.backbone).sum())} solid links join heads above the threshold, thicker where "
            "more similar; dashed links belong to a tree that connects the graph. Communities (Louvain) have more "
            f"links inside than random links would give, modularity {graph.modularity:.2f}. Distances on the page are "
            f"approximate. Hover to highlight a community, click a node to choose its head. {HOW}"
        ),
        formula=FORMULA,
        data=lambda: {
            "first": [head_name(head, mask.heads) for head in graph.edges[:, 0].tolist()],
            "second": [head_name(head, mask.heads) for head in graph.edges[:, 1].tolist()],
            "similarity": graph.similarity.round(4).tolist(),
            "above threshold": (~graph.backbone).tolist(),
        },
    )
    show_graph(
        graph_html(graph, mask, dark=dark),
        heads=len(graph.communities),
        chosen=head,
        on_pick=chosen.choose,
        alt=covered,
    )
