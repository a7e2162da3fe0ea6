"""The page My text: heads compared on a person's own text; below, in tabs, details of it and heads over many texts.

Text and results live in the browser session only: in no file, shared cache, address or log.
"""

from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count

import numpy as np
import streamlit as st

from cahp import features
from cahp.figures import similarity as figures
from cahp.figures.head_grid import head_name
from cahp.models.cards import ModelCard
from cahp.run.bench import Bench
from cahp.stages.similarity import (
    Attention,
    HeadGraph,
    attend,
    distances,
    head_graph,
    nearest_heads,
    suggest_threshold,
)
from cahp.store import Entry, Store, key
from cahp.ui.frame import address
from cahp.ui.frame.board import shape_key
from cahp.ui.frame.page import link
from cahp.ui.frame.running import job_card
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.parts.inputs import find_opening, has_words, own_text_box
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind, loading_seconds
from cahp.ui.similarity.graph import VIEW, choose_head, draw_head_box, show_graph
from cahp.values import NOUNS, DataError, Floats, Input, Progress
from cahp.words import capital

# A text and its heads ----------------------------------------------------------------------------------------


#: Heads that are shown beside the chosen one: more are too narrow.
_NEAREST = 2
#: Session key: the threshold that a person chose.
_THRESHOLD = "similarity-threshold"
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
    distances: Floats
    number: int = field(default_factory=count().__next__)


def _compare(subject: tuple[Bench, Input], progress: Progress) -> ComparedHeads:
    bench, text = subject
    attention = attend(bench.model, text)
    special = bench.model.tokenizer.all_special_tokens
    if sum(token not in special for token in attention.tokens) < 2:
        raise DataError("The model knows too few tokens of this text to compare heads on it. Type a few words.")
    return ComparedHeads(attention, distances(attention.weights, progress=progress))


#: Compare the heads on a text. Its name may reach the log, so it holds no text.
COMPARE = Kind(
    _compare,
    lambda subject: f"similarity-{hash((subject[0].card.sha256, subject[1]))}",
    awaited=False,
    newest=True,
    seconds=lambda subject: loading_seconds(subject[0]),
)


def name_example(card: ModelCard) -> str:
    """Return the key of the attention of a model on the text that its sessions open with."""
    return key("attention on example", 1, card.sha256, find_opening(card.task.name))


def _read_example(entry: Entry) -> ComparedHeads:
    weights = entry.arrays["weights"].astype(np.float32)
    return ComparedHeads(Attention(tuple(entry.meta["tokens"]), weights, 0), distances(weights))


@cache
def _compare_example(name: str) -> ComparedHeads | None:
    return Store().read(name, _read_example)


def compare_example(card: ModelCard) -> ComparedHeads | None:
    """Compare the heads on the example as it ships (None: it does not for this model); all sessions share it."""
    return _compare_example(name_example(card))


def compare(explorer: Explorer) -> ComparedHeads | None:
    """Draw the box for a text, and return the heads compared on it (None: there is no text, or no result yet)."""
    with st.container(key="similarity-input"):
        text = own_text_box(explorer.bench, line=True)
    if not has_words(text):
        st.info("Type a text, or insert an example.")
        return None
    compared = None
    if text == find_opening(explorer.card.task.name):
        compared = compare_example(explorer.card)
    if compared is None:
        compared = job_card(explorer, COMPARE, (explorer.bench, text), name="similarity", title="Compare heads")
    if compared is None:
        return None
    if compared.attention.cut:
        st.warning(
            f"This text is too long for the model: its first {len(compared.attention.tokens):,} tokens are compared, "
            f"{compared.attention.cut:,} more were truncated."
        )
    return compared


def _draw_graph(explorer: Explorer, compared: ComparedHeads, head: int) -> HeadGraph:
    """Draw the graph with its slider, and return it."""
    mask = explorer.mask
    unit = explorer.card.unit
    key = f"{_THRESHOLD}-{compared.number}"
    suggested = round(suggest_threshold(compared.distances), 2)
    # The slider is drawn below the graph, and after it, so that nothing jumps.
    threshold = float(st.session_state.get(key, st.session_state.get(_THRESHOLD, suggested)))
    first = _make_graph(compared, suggested)
    graph = _make_graph(compared, threshold)
    communities = int(graph.communities.max()) + 1
    finding = f"{unit.capitalize()}s form {communities} communities on this text"
    if explorer.results.run is not None:
        covered = len(np.unique(graph.communities[mask.flat]))
        finding = f"The {mask.count} kept {unit}s cover {covered} of {communities} communities of {unit}s on this text"
    names = [head_name(other, mask.heads, unit) for other in range(mask.keep.size)]
    with st.container(key="similarity-graph"):
        display.heading(
            finding,
            name="head-graph",
            help=f"Each node is {display.describe_square(explorer.card)} (layer.{unit}); solid nodes are kept, light "
            f"ones pruned; large numbers name communities. Solid links join {unit}s above the threshold, thicker where "
            "more similar; dashed links are of a tree that connects the graph. Communities (of all links, by the "
            "Louvain method) have more links inside than at random. Distances in the drawing are approximate. "
            f"{_HOW}",
            formula=_FORMULA,
            data={
                "first": np.take(names, graph.edges[:, 0]).tolist(),
                "second": np.take(names, graph.edges[:, 1]).tolist(),
                "similarity": graph.similarity.round(4).tolist(),
                "above threshold": (~graph.backbone).tolist(),
            },
        )
        show_graph(first, graph, mask, head, unit=unit, dark=display.is_dark(), alt=finding)
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
    if compared is compare_example(explorer.card):
        st.caption("Bundled result of this example. Another text is run on this machine.")
    label = f"Open the card of {names[head]}"
    if explorer.results.run is not None and st.button(label, key="similarity-card"):
        explorer.card_head = head
        st.rerun()
    return graph


def _make_graph(compared: ComparedHeads, threshold: float) -> HeadGraph:
    """Make the graph of the heads that are joined at this threshold, once."""
    return cache_with(compared, threshold, partial(head_graph, compared.distances, threshold=threshold))


def _draw_head(explorer: Explorer, attention: Attention, head: int, title: str, name: str, top: float = 0.0) -> None:
    """Draw the attention of a head; ``top`` is the weight with the strongest colour (0: its largest)."""
    weights = attention.by_head[head]
    rows, columns = np.indices(weights.shape).reshape(2, -1)
    display.show(
        figures.attention_figure(attention.tokens, weights, dark=display.is_dark(), top=top),
        title=capital(f"{head_name(head, explorer.mask.heads, explorer.card.unit)} {title}"),
        help="Each row is a query token, each column a token it attends to; a row sums to 1. The darker, the "
        "more; weak attention is stretched so that it shows beside strong attention. Tooltips have the values.",
        name=name,
        data=lambda: {
            "place": rows.tolist(),
            "token": np.take(attention.tokens, rows).tolist(),
            "looks at place": columns.tolist(),
            "looks at token": np.take(attention.tokens, columns).tolist(),
            "attention": weights.ravel().round(5).tolist(),
        },
    )


# The tabs ----------------------------------------------------------------------------------------------------


def _draw_nearest(explorer: Explorer, compared: ComparedHeads, head: int) -> None:
    """Draw the heads that attend most like the chosen one, on one colour scale."""
    near = nearest_heads(compared.distances, head, count=_NEAREST)
    if not near:
        return
    top = float(compared.attention.by_head[near].max())
    for place, (column, other) in enumerate(zip(st.columns(len(near), gap="medium"), near, strict=True)):
        state = "pruned"
        if explorer.mask.keep.flat[other]:
            state = "kept"
        title = f"({state}): distance {compared.distances[head, other]:.2f} of at most 1"
        with column:
            _draw_head(explorer, compared.attention, other, title, f"nearest-{place}", top)


def _draw_distances(explorer: Explorer, compared: ComparedHeads, graph: HeadGraph) -> None:
    """Draw the distances of all pairs of heads."""
    unit = explorer.card.unit
    apart = compared.distances
    names = [head_name(other, explorer.mask.heads, unit) for other in range(len(apart))]
    picture, finding = figures.matrix(apart, graph.communities, explorer.mask, unit=unit, dark=display.is_dark())
    display.show(
        picture,
        title=finding,
        help=f"Each cell is a pair of {unit}s; framed blocks along the diagonal are the communities. {_HOW}",
        formula=_FORMULA,
        name="distances",
        data=lambda: {
            "distance": names,
            **{name: apart[:, place].round(4).tolist() for place, name in enumerate(names)},
        },
    )


# The page ----------------------------------------------------------------------------------------------------

#: The tabs about the text: their labels by their names in links. Features bring those about many texts.
_ON_TEXT = {"text": "Most alike", "distances": "All distances"}


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    unit = explorer.card.unit
    mask = explorer.mask
    over_texts = {panel.name: panel for panel in features.panels("Similarity")}
    st.title(f"Which {unit}s attend alike on your text?")
    compared = compare(explorer)
    head = choose_head(mask, lambda: _start_head(explorer, compared))
    graph = None
    if compared is not None:
        frame = st.container(key=shape_key(mask))
        left, right = frame.container(key="similarity-overview").columns([4, 3], gap="medium")
        with left:
            graph = _draw_graph(explorer, compared, head)
        with right:
            title = "on this text"
            if explorer.roles is not None:
                title += f": {NOUNS[explorer.roles.names[head]]}"
            _draw_head(explorer, compared.attention, head, title, "attention")
    labels = _ON_TEXT | {name: panel.label for name, panel in over_texts.items()}
    linked = address.linked("view")
    if linked in labels:
        st.session_state[VIEW] = linked
    elif st.session_state.get(VIEW) not in labels:
        st.session_state[VIEW] = "text"
    if compared is None:
        # Without a text, or before its heads are compared, there is nothing to show about it.
        if st.session_state[VIEW] in _ON_TEXT:
            return
        labels = {name: labels[name] for name in over_texts}
    with st.container(horizontal=True, vertical_alignment="center", key="similarity-more"):
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
            draw_head_box(mask, unit)
    address.put("view", str(name))
    if name in over_texts:
        over_texts[str(name)].draw(explorer, head)
    elif compared is not None and graph is not None and name == "distances":
        _draw_distances(explorer, compared, graph)
    elif compared is not None:
        _draw_nearest(explorer, compared, head)
    with st.container(horizontal=True, gap="medium"):
        link("budget", f"Keep or remove {unit}s on the board →")
        link("budget", f"{explorer.card.words.own_text}, with fewer {unit}s →", panel="text")


def _start_head(explorer: Explorer, compared: ComparedHeads | None) -> int:
    """Return the head that the page begins with: a kept one that rests least on the first token."""
    if compared is None:
        return 0
    at_start = compared.attention.by_head[:, :, 0].mean(axis=1)
    return int(np.where(explorer.mask.keep.ravel(), at_start, at_start + 1).argmin())
