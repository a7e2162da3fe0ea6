"""The page My text: heads compared on a person's own text; below, in tabs, details of it and heads over many texts.

Text and results live in the browser session only: in no file, shared cache, address or log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from typing import Any, Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp import features, models
from cahp.figures import marks
from cahp.figures import similarity as figures
from cahp.figures.head_grid import grid_figure, head_name, places
from cahp.run.bench import Bench
from cahp.stages.similarity import (
    Attention,
    HeadGraph,
    attend,
    distances,
    head_graph,
    nearest_heads,
    read_tokens,
    suggest_threshold,
    uncovered_communities,
)
from cahp.store import Entry, Store, key
from cahp.ui.frame.board import shape_key
from cahp.ui.frame.page import link
from cahp.ui.frame.running import job_card
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.parts.inputs import has_words, input_box, keep, load_examples
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind, loading_seconds
from cahp.ui.similarity.graph import VIEW, choose_head, draw_head_box, read_link, set_head, show_graph, write_link
from cahp.values import HeadMask, Input, Progress
from cahp.values.head_roles import score_text
from cahp.values.statistics import called

# A text and its heads ----------------------------------------------------------------------------------------


#: The width in pixels that the grid's squares are drawn for; the page's style keeps its column from being narrower.
_GRID = 390
#: The height in pixels of the chosen head's attention.
_HEAD = 350
#: A head with this share of its attention on the first and the last token says little about the text.
_IDLE = 0.4
#: Session key: whether the box is for a pair of texts.
_PAIRS = "similarity-pairs"
#: Session key: the threshold that a person chose.
_THRESHOLD = "similarity-threshold"
#: The text that the page opens with.
_EXAMPLE = load_examples("single")[0]["text"]
#: The distance of two heads, as a formula and in words.
_FORMULA = r"d(a, b) = \frac{1}{S} \sum_{i=1}^{S} \sqrt{\mathrm{JSD}_2(a_i, b_i)}"
_HOW = (
    "Each head gives every token a row of attention weights that sum to 1. Two heads are compared row by row with the "
    "square root of the Jensen-Shannon divergence (base 2), averaged over the tokens: 0 means the same attention, 1 "
    "means they never attend to the same token. Similarity is 1 minus that distance."
)


@dataclass(frozen=True, eq=False)
class ComparedHeads:
    """The attention of all heads on one text, their distances, and a ``number`` that stands for the text."""

    attention: Attention
    distances: NDArray[np.float64]
    number: int = field(default_factory=count().__next__)

    @property
    def start_head(self) -> int:
        """One of the two most alike of some heads that attend to single tokens between the first and the last.

        Many heads attend to the first or the last token where they find nothing, which says little about the text.
        """
        maps = self.attention.by_head
        heads = len(self.distances)
        focus = maps[:, :, 1:-1].max(axis=2, initial=0).mean(axis=1)
        idle = maps[:, :, [0, -1]].sum(axis=2).mean(axis=1) >= _IDLE
        focused = np.lexsort((-focus, idle))[: max(2, min(heads // 4, int((~idle).sum())))]
        apart = (self.distances + np.diag(np.full(heads, np.inf)))[np.ix_(focused, focused)]
        return int(focused[int(np.argmin(apart)) // len(focused)])


@dataclass(frozen=True, eq=False)
class Compared:
    """What is drawn: ``heads`` compared on a text, their ``graph``, the ``mask`` on the board, and the chosen head.

    Sentences call a head a ``unit``.
    """

    heads: ComparedHeads
    graph: HeadGraph
    mask: HeadMask
    head: int
    unit: str


def _compare(subject: tuple[Bench, Input], progress: Progress) -> ComparedHeads:
    bench, text = subject
    attention = attend(bench.model, text)
    return ComparedHeads(attention, distances(attention.weights, progress=progress))


#: Compare the heads on a text. Its name may reach the log, so it holds no text.
COMPARE: Kind[tuple[Bench, Input], ComparedHeads] = Kind(
    _compare,
    lambda subject: f"similarity-{hash((subject[0].card.sha256, subject[1]))}",
    awaited=False,
    newest=True,
    seconds=lambda subject: loading_seconds(subject[0]),
)


def read_example(store: Store, model: str) -> Attention | None:
    """Read the attention of all heads on the text that the page opens with, for the digest of a model."""

    def read(entry: Entry) -> Attention:
        weights = entry.arrays["weights"].astype(np.float32)
        roles = score_text(weights, entry.arrays["ids"], entry.arrays["special"])
        return Attention(tuple(entry.meta["tokens"]), weights, 0, roles)

    return store.read(_name_example(model), read)


def measure_example(bench: Bench) -> None:
    """Store the attention of all heads on the text that the page opens with."""
    store = bench.resources.store
    if read_example(store, bench.card.sha256) is not None:
        return
    model = bench.model
    attention = attend(model, _EXAMPLE)
    arrays = {
        "weights": attention.weights.astype(np.float16),
        "ids": np.array(read_tokens(model, _EXAMPLE)[0]["input_ids"]),
        "special": np.array(sorted(models.special_ids(model.tokenizer))),
    }
    store.save(_name_example(bench.card.sha256), arrays=arrays, meta={"tokens": attention.tokens})


def _name_example(model: str) -> str:
    return key("attention on example", 1, model, _EXAMPLE)


@cache
def _compare_example(model: str) -> ComparedHeads | None:
    """Compare the heads on the stored example; all sessions share it."""
    attention = read_example(Store(), model)
    if attention is None:
        return None
    return ComparedHeads(attention, distances(attention.weights))


def compare(explorer: Explorer) -> ComparedHeads | None:
    """Draw the box for a text, and return the heads compared on it (None: there is no text, or no result yet)."""
    keep("similarity", {_PAIRS: bool, **{f"similarity-{part}-0": str for part in ("text", "first", "second")}})
    if _PAIRS not in st.session_state:
        st.session_state[_PAIRS] = explorer.bench.calibration.second is not None
    boxes, beside = st.container(key="similarity-input").columns([4, 1], gap="small")
    with boxes:
        kind: Literal["single", "pairs"] = "pairs" if st.session_state[_PAIRS] else "single"
        text = input_box("similarity", kind, explorer.bench, label="Text", choose_in=beside)
    with beside:
        st.toggle("Pair of texts", key=_PAIRS, persist_state="session")
    if not has_words(text):
        st.info("Type a text, or insert an example.")
        return None
    compared = None
    if text == _EXAMPLE:
        compared = _compare_example(explorer.card.sha256)
    if compared is None:
        label = "Compare heads"
        subject = explorer.bench, text
        compared = job_card(explorer, COMPARE, subject, name="similarity", title=label, asks_for_long=label)
    if compared is None:
        return None
    if compared.attention.cut:
        st.warning(
            f"This text is too long for the model: its first {len(compared.attention.tokens):,} tokens are compared, "
            f"{compared.attention.cut:,} more were truncated."
        )
    if refused := describe_emptiness(compared.attention):
        st.info(refused)
        return None
    return compared


def describe_emptiness(attention: Attention) -> str:
    """Return why heads cannot be compared on a text; empty if they can."""
    if attention.ordinary is not None and attention.unknown == attention.ordinary:
        return "The tokenizer of this model knows no token of this text, so the heads have nothing to read. Type words."
    if attention.ordinary == 1:
        return "One token is too few to compare heads. Type a few words."
    return ""


def draw_text(explorer: Explorer, compared: ComparedHeads, head: int) -> Compared:
    """Draw graph, communities by layer, and the chosen head, side by side; return what is drawn."""
    mask = explorer.mask
    dark = display.is_dark()
    unit = explorer.card.unit
    frame = st.container(key=shape_key(mask.layers, mask.heads))
    left, right = frame.container(key="similarity-overview").columns([4, 3], gap="medium")
    key = f"{_THRESHOLD}-{compared.number}"
    suggested = round(suggest_threshold(compared.distances), 2)
    # The slider is drawn below the graph, and after it, so that nothing jumps.
    threshold = float(st.session_state.get(key, st.session_state.get(_THRESHOLD, suggested)))
    first = _make_graph(compared, suggested)
    graph = _make_graph(compared, threshold)
    joined = int((~graph.backbone).sum())
    covered = _describe_coverage(explorer, graph)
    if not joined:
        covered = f"No two {unit}s have a similarity of {threshold:.2f} or more on this text"
    with left.container(key="similarity-graph"):
        display.heading(
            covered,
            name="head-graph",
            help=f"Each node is {display.describe_square(explorer.card)} (layer.{unit}); solid nodes are kept, light "
            f"ones pruned; large numbers name communities. {joined} solid links join {unit}s above the threshold, "
            "thicker where more similar; dashed links are of a tree that connects the graph. Communities (of all "
            f"links, by the Louvain method, modularity {graph.modularity:.2f}) have more links inside than at random. "
            "Distances in the drawing are approximate. Hover to highlight a community, click a node to choose it. "
            f"{_HOW}",
            formula=_FORMULA,
            data=lambda: _list_links(graph, mask, unit),
        )
        show_graph(first, graph, mask, head, unit=unit, dark=dark, alt=covered)
    with left:
        st.slider(
            f"Link {unit}s with a similarity of at least",
            0.0,
            1.0,
            threshold,
            0.01,
            key=key,
            # Another text keeps a threshold that a person chose.
            on_change=lambda: st.session_state.update({_THRESHOLD: st.session_state[key]}),
            help="A high threshold shows only the strongest similarities. Communities are computed from all links.",
        )
        st.caption(f"{joined} solid links. Dashed links only hold the drawing together.")
        label = f"Open the card of {head_name(head, mask.heads, unit)}"
        if explorer.results.run is not None and st.button(label, key="similarity-card"):
            explorer.card_head = head
            st.rerun()
    drawn = Compared(compared, graph, mask, head, unit)
    with right:
        _draw_grid(drawn, covered)
        _draw_head(drawn)
    return drawn


def _make_graph(compared: ComparedHeads, threshold: float) -> HeadGraph:
    """Make the graph of the heads that are joined at this threshold, once."""
    return cache_with(compared, threshold, partial(head_graph, compared.distances, threshold=threshold))


def _list_links(graph: HeadGraph, mask: HeadMask, unit: str) -> dict[str, list[Any]]:
    """Return the links of the graph as a table."""
    names = [head_name(head, mask.heads, unit) for head in range(mask.keep.size)]
    return {
        "first": np.take(names, graph.edges[:, 0]).tolist(),
        "second": np.take(names, graph.edges[:, 1]).tolist(),
        "similarity": graph.similarity.round(4).tolist(),
        "above threshold": (~graph.backbone).tolist(),
    }


def _draw_grid(drawn: Compared, covered: str) -> None:
    mask = drawn.mask
    graph = drawn.graph
    display.show(
        grid_figure(
            mask,
            marks.mark_communities(graph.communities),
            selected=drawn.head,
            dark=display.is_dark(),
            width=_GRID,
            compact=True,
            unit=drawn.unit,
        ),
        title="Communities by layer",
        help=f"Each square is a {drawn.unit}: solid ones are kept, light ones pruned. Colour and number name the "
        "community on this text; the eight largest have their own colour, the next eight repeat the colours, crossed. "
        f"The thick frame is the chosen {drawn.unit}, thin frames are its community. Click another one to choose it.",
        name="communities",
        data=lambda: {
            **places(mask.layers, mask.heads),
            "community": [marks.community_name(int(group)) for group in graph.communities],
            "kept": mask.keep.ravel().tolist(),
        },
        on_pick=set_head,
        alt=covered,
    )


def _describe_coverage(explorer: Explorer, graph: HeadGraph) -> str:
    """Describe whether the kept heads cover every community of this text."""
    communities = int(graph.communities.max()) + 1
    unit = explorer.card.unit
    if explorer.results.run is None:
        return f"{unit.capitalize()}s form {communities} communities on this text"
    missed = uncovered_communities(graph.communities, explorer.mask)
    covered = f"all {communities}"
    if missed:
        covered = f"{communities - len(missed)} of {communities}"
    return f"The {explorer.mask.count} kept {unit}s cover {covered} communities of {unit}s on this text"


def _draw_head(drawn: Compared) -> None:
    """Draw the attention of the chosen head, with its role."""
    attention = drawn.heads.attention
    head = drawn.head
    weights = attention.by_head[head]
    name = head_name(head, drawn.mask.heads, drawn.unit)
    display.show(
        figures.attention_figure(attention.tokens, weights, dark=display.is_dark(), height=_HEAD),
        title=f"{name.capitalize()} {figures.habit(weights, attention.roles, head)}",
        help="Each row is a query token, each column a token it attends to; a row sums to 1. The scale stretches weak "
        "attention so that it shows beside strong attention.",
        name="attention",
        data=lambda: _list_weights(attention.tokens, weights),
        alt=f"Attention of {name} over {len(attention.tokens)} tokens.",
    )
    if attention.roles is not None:
        st.caption(
            f"**Role on this text:** {attention.roles.describe(head)}.",
            help="What gets a large share of its attention here, and more than tokens drawn at random. One text gives "
            "no interval, and need not show what the head does elsewhere: see “Over all texts”.",
        )


def _list_weights(tokens: tuple[str, ...], weights: NDArray[np.float32]) -> dict[str, list[Any]]:
    """Return the attention of each token to each as a table."""
    rows, columns = np.indices(weights.shape).reshape(2, -1)
    return {
        "place": rows.tolist(),
        "token": [token for token in tokens for _ in tokens],
        "looks at place": columns.tolist(),
        "looks at token": list(tokens) * len(tokens),
        "attention": weights.ravel().round(5).tolist(),
    }


# The tabs ----------------------------------------------------------------------------------------------------


def draw_nearest(drawn: Compared) -> None:
    """Draw the chosen head beside those that attend most alike."""
    attention = drawn.heads.attention
    distances = drawn.heads.distances
    mask = drawn.mask
    head = drawn.head
    dark = display.is_dark()
    near = nearest_heads(distances, head, count=3)
    if not near:
        return
    state = "kept" if mask.keep.flat[near[0]] else "pruned"
    names = [head_name(other, mask.heads, drawn.unit) for other in near]
    display.show(
        cache_with(
            drawn.heads,
            ("nearest", head, dark),
            lambda: figures.beside(attention, distances, [head, *near], heads=mask.heads, unit=drawn.unit, dark=dark),
        ),
        title=f"{names[0].capitalize()} ({state}) attends most alike: distance {distances[head, near[0]]:.2f} of at "
        "most 1",
        help=f"The attention maps of the chosen {drawn.unit} and of the three that attend most alike on this text, "
        f"with one colour scale. {_HOW}",
        formula=_FORMULA,
        name="nearest",
        data={
            "head": names,
            "distance": [round(float(distances[head, other]), 4) for other in near],
            "kept": mask.keep.ravel()[near].tolist(),
        },
    )


def draw_communities(drawn: Compared) -> None:
    """List all communities with their heads."""
    mask = drawn.mask
    communities = drawn.graph.communities
    rows = []
    for group in range(int(communities.max()) + 1):
        members = np.flatnonzero(communities == group).tolist()
        kept = [head for head in members if mask.keep.flat[head]]
        rows.append(
            {
                "community": marks.community_name(group),
                f"{drawn.unit}s": len(members),
                "kept": len(kept),
                f"kept {drawn.unit}s": _list_heads(kept, mask) or "none",
                f"all {drawn.unit}s": _list_heads(members, mask),
            }
        )
    st.dataframe(rows, hide_index=True, key="similarity-communities")


def _list_heads(heads: list[int], mask: HeadMask) -> str:
    return ", ".join(called(head, mask.heads) for head in heads)


def draw_distances(drawn: Compared) -> None:
    """Draw the distances of all pairs of heads."""
    distances = drawn.heads.distances
    names = [head_name(other, drawn.mask.heads, drawn.unit) for other in range(len(distances))]
    picture, finding = figures.matrix(
        distances, drawn.graph.communities, drawn.mask, unit=drawn.unit, dark=display.is_dark()
    )
    display.show(
        picture,
        title=finding,
        help=f"Each cell is a pair of {drawn.unit}s; framed blocks along the diagonal are the communities. Orange "
        f"squares on the diagonal mark kept {drawn.unit}s; click one to choose it. {_HOW}",
        formula=_FORMULA,
        name="distances",
        data=lambda: {
            "distance": names,
            **{name: distances[:, place].round(4).tolist() for place, name in enumerate(names)},
        },
        on_pick=set_head,
    )


# The page ----------------------------------------------------------------------------------------------------

#: The tabs about the text: their labels by their names in links. Features bring those about many texts.
_ON_TEXT: Mapping[str, tuple[str, Callable[[Compared], None]]] = {
    "text": ("Most alike", draw_nearest),
    "communities": ("All communities", draw_communities),
    "distances": ("All distances", draw_distances),
}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    unit = explorer.card.unit
    over_texts = {panel.name: panel for panel in features.panels("Similarity")}
    st.title(f"Which {unit}s attend alike on your text?")
    compared = compare(explorer)
    head = choose_head(explorer.mask, lambda: _start_head(explorer, compared))
    drawn = None
    if compared is not None:
        drawn = draw_text(explorer, compared, head)
    linked = read_link("view")
    labels = {name: label for name, (label, _) in _ON_TEXT.items()}
    labels |= {name: panel.label for name, panel in over_texts.items()}
    if linked in labels:
        st.session_state[VIEW] = linked
    elif st.session_state.get(VIEW) not in labels:
        st.session_state[VIEW] = "text"
    if drawn is None:
        # Without a text, or before its heads are compared, there is nothing to show about it.
        if st.session_state[VIEW] in _ON_TEXT:
            return
        labels = {name: labels[name] for name in over_texts}
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="similarity-more"):
        name = st.segmented_control(
            "More",
            list(labels),
            required=True,
            format_func=labels.__getitem__,
            key=VIEW,
            persist_state="session",
            label_visibility="collapsed",
        )
        with st.container(width=260):
            draw_head_box(explorer.mask, unit)
    write_link("view", str(name))
    if name in over_texts:
        over_texts[str(name)].draw(explorer, head)
    elif drawn is not None:
        _ON_TEXT[str(name)][1](drawn)
    with st.container(horizontal=True, gap="medium"):
        link("budget", f"Keep or remove {unit}s on the board →")
        link("budget", f"{explorer.card.words.own_text}, with fewer {unit}s →", panel="text")


def _start_head(explorer: Explorer, compared: ComparedHeads | None) -> int:
    """Return the head that the page begins with: the clicked one, one of the most alike, or the most salient one."""
    if explorer.selected is not None:
        return explorer.selected
    if compared is not None:
        return compared.start_head
    if explorer.clusters is None:
        return 0
    return int(np.argmax(explorer.clusters.salience))
