"""The page My text: a map of what heads do with a person's own text; in a fold, details.

Text and results live in the browser session only: in no file, shared cache, address or log.
"""

from collections.abc import Mapping
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
    attend,
    distances,
    head_graph,
    nearest_heads,
    suggest_threshold,
)
from cahp.store import Entry, Store, key
from cahp.ui.frame import address
from cahp.ui.frame.address import CHOSEN_HEAD
from cahp.ui.frame.page import link
from cahp.ui.frame.running import job_card
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, draw_note
from cahp.ui.parts.inputs import find_opening, has_words, own_text_box
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind, loading_seconds
from cahp.ui.similarity.graph import (
    GROUPS,
    VIEW,
    choose_head,
    cut_groups,
    describe_groups,
    join_heads,
    show_map,
    write_network,
)
from cahp.values import DataError, Floats, Input, Ints, Progress
from cahp.values.statistics import called
from cahp.words import capital

# A text and its heads ----------------------------------------------------------------------------------------


#: Heads that are shown beside the chosen one: more are too narrow.
_NEAREST = 2
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


def _draw_alike(explorer: Explorer, compared: ComparedHeads, head: int, _: Ints) -> None:
    """Draw the chosen head, and those that attend most like it on one colour scale."""
    near = nearest_heads(compared.distances, head, count=_NEAREST)
    chosen, *others = st.columns(1 + len(near), gap="medium")
    with chosen:
        _draw_head(explorer, compared.attention, head, "on this text", "attention")
    top = float(compared.attention.by_head[near].max(initial=0))
    for place, (column, other) in enumerate(zip(others, near, strict=True)):
        state = "pruned"
        if explorer.mask.keep.flat[other]:
            state = "kept"
        title = f"({state}): distance {compared.distances[head, other]:.2f} of at most 1"
        with column:
            _draw_head(explorer, compared.attention, other, title, f"nearest-{place}", top)


def _draw_distances(explorer: Explorer, compared: ComparedHeads, _: int, groups: Ints) -> None:
    """Draw the distances of all pairs of heads."""
    unit = explorer.card.unit
    apart = compared.distances
    names = [head_name(other, explorer.mask.heads, unit) for other in range(len(apart))]
    picture, finding = figures.matrix(apart, groups, explorer.mask, unit=unit, dark=display.is_dark())
    display.show(
        picture,
        title=finding,
        help=f"Each cell is a pair of {unit}s; framed blocks along the diagonal are the groups of the map. {_HOW}",
        formula=_FORMULA,
        name="distances",
        data=lambda: {
            "distance": names,
            **{name: apart[:, place].round(4).tolist() for place, name in enumerate(names)},
        },
    )


def _draw_table(explorer: Explorer, compared: ComparedHeads, _: int, groups: Ints) -> None:
    """Draw the groups of all heads, and the head that is most like each, as a table."""
    mask = explorer.mask
    apart = compared.distances + 2 * np.eye(len(groups))
    names = np.array([called(head, mask.heads) for head in range(len(groups))])
    table = {
        explorer.card.unit: names,
        "kept": mask.keep.ravel(),
        "group": groups + 1,
        "most alike": names[apart.argmin(axis=0)],
        "distance": apart.min(axis=0),
    }
    st.dataframe(table, hide_index=True)


# The page ----------------------------------------------------------------------------------------------------

#: The views of the text by their names in links: labels, and what draws them. Features bring those about many texts.
_ON_TEXT = {
    "text": ("Most alike", _draw_alike),
    "distances": ("All distances", _draw_distances),
    "table": ("As table", _draw_table),
}
#: Session keys: the fold with the views, and whether it was open when it was drawn last.
_FOLD = "similarity-fold"
_OPEN = "similarity-open"


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    unit = explorer.card.unit
    mask = explorer.mask
    over_texts = {panel.name: panel for panel in features.panels("Similarity")}
    title = f"Which {unit}s attend alike on your text?"
    top = st.container(key="similarity-top", gap=None)
    compared = compare(explorer)
    head = choose_head(mask, lambda: _start_head(explorer, compared))
    groups: Ints = np.arange(0)
    labels = {name: label for name, (label, _) in _ON_TEXT.items()}
    labels |= {name: panel.label for name, panel in over_texts.items()}
    if compared is not None:
        top.caption(title)
        groups = _draw_map(explorer, compared, head)
        title = describe_groups(groups, mask, unit)
    top.title(title, anchor=False)
    draw_note()
    linked = address.linked("view")
    if linked in labels:
        st.session_state[VIEW] = linked
        st.session_state[_FOLD] = True
    elif st.session_state.get(VIEW) not in labels:
        st.session_state[VIEW] = "text"
    if compared is None:
        # Without a text, or before its heads are compared, there is nothing to show about it.
        if st.session_state[VIEW] in _ON_TEXT:
            return
        labels = {name: labels[name] for name in over_texts}
    # Streamlit forgets it while another text is compared.
    st.session_state.setdefault(_FOLD, st.session_state.get(_OPEN, False))
    fold = st.expander(" · ".join(labels.values()), key=_FOLD, on_change="rerun")
    st.session_state[_OPEN] = fold.open
    if fold.open:
        with fold:
            name = _choose_view(explorer, labels)
            if name in over_texts:
                over_texts[name].draw(explorer, head)
            elif compared is not None:
                _ON_TEXT[name][1](explorer, compared, head, groups)
    else:
        address.put("view", "")
    with st.container(horizontal=True, gap="medium"):
        link("budget", f"Keep or remove {unit}s on the board →")
        link("budget", f"{explorer.card.words.own_text}, with fewer {unit}s →", panel="text")


def _choose_view(explorer: Explorer, labels: Mapping[str, str]) -> str:
    """Draw the choice of a view and of a head, and return the name of the view."""
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
        st.selectbox(
            "Head",
            range(explorer.mask.keep.size),
            # A name that changed with the mask would no longer be found when a run is interrupted.
            format_func=lambda head: head_name(head, explorer.mask.heads, explorer.card.unit),
            key=CHOSEN_HEAD,
            persist_state="session",
            label_visibility="collapsed",
            width=260,
        )
    address.put("view", str(name))
    return str(name)


def _draw_map(explorer: Explorer, compared: ComparedHeads, head: int) -> Ints:
    """Draw the map, and return the group of each head."""
    distances = compared.distances
    graph = cache_with(compared, "graph", lambda: head_graph(distances, threshold=suggest_threshold(distances)))
    steps = cache_with(compared, "steps", lambda: join_heads(distances, graph.communities))
    count = st.session_state.get(GROUPS, int(graph.communities.max()) + 1)
    count = min(count, len(graph.communities))
    groups = cut_groups(steps, count)
    show_map(explorer, compared, graph, steps, head, count)
    if compared is compare_example(explorer.card):
        st.caption("Bundled result of this example. Another text is run on this machine.")
    network = partial(write_network, graph, groups, explorer.mask, explorer.card.unit)
    display.download("Save as web page", network, "heads.html", "text/html", type="tertiary")
    return groups


def _start_head(explorer: Explorer, compared: ComparedHeads | None) -> int:
    """Return the head that the page begins with: the kept one that rests least on the first token."""
    if compared is None:
        return 0
    at_start = compared.attention.by_head[:, :, 0].mean(axis=1)
    return int((at_start - explorer.mask.keep.ravel()).argmin())
