"""What is alike: the heads compared on a person's own text, alone or beside up to three others.

Texts and what is computed from them live in the browser session and nowhere else: no file, no shared cache, no
address, no log.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, count
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp import models
from cahp.stages.similarity import (
    Attention,
    HeadGraph,
    agreement,
    attend,
    changes,
    distances,
    head_graph,
    nearest,
    uncovered,
    usual_threshold,
)
from cahp.ui.frame import page as shell
from cahp.ui.frame.progress import follow
from cahp.ui.parts import chart as charts
from cahp.ui.parts import palette
from cahp.ui.parts.attention_map import attention_figure
from cahp.ui.parts.head_grid import grid_figure, head_name
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.similarity import figures
from cahp.ui.similarity.graph import graph_html, show_graph
from cahp.values import HeadMask, Input, Progress

#: Texts that can be compared at once, and characters that a box takes.
_TEXTS = 4
_LONGEST = 100_000
#: What a session's results may take in memory; those on screen stay anyway.
_MEMORY_BYTES = 256 << 20
_MEMORY = "similarity-memory"
_HEAD = "similarity-head"

_DISTANCE = r"d(a, b) = \frac{1}{S} \sum_{i=1}^{S} \sqrt{\mathrm{JSD}_2(a_i, b_i)}"
_HOW = (
    "Each head gives every token a row of attention weights that sum to 1. Two heads are compared row by row with the "
    "square root of the Jensen-Shannon divergence (base 2), averaged over the tokens: 0 means the same attention, 1 "
    "means they never attend to the same token. Similarity is 1 minus that distance."
)


@dataclass(frozen=True, eq=False)
class Seen:
    """One text as the heads see it."""

    number: int
    attention: Attention
    distances: NDArray[np.float64]
    graphs: dict[float, HeadGraph] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.attention.weights.nbytes + self.distances.nbytes

    @property
    def threshold(self) -> float:
        """The similarity above which heads are joined unless a person says otherwise."""
        return usual_threshold(self.distances)

    def graph(self, threshold: float | None = None) -> HeadGraph:
        """The heads joined above a similarity."""
        wanted = self.threshold if threshold is None else threshold
        if wanted not in self.graphs:
            self.graphs[wanted] = head_graph(self.distances, threshold=wanted)
        return self.graphs[wanted]


@dataclass
class _Memory:
    """What this session has compared, and what it is comparing."""

    seen: OrderedDict[tuple[str, Input], Seen] = field(default_factory=OrderedDict)
    job: jobs.Job[list[tuple[Attention, NDArray[np.float64]]]] | None = None
    wanted: tuple[tuple[str, Input], ...] = ()
    numbers: Any = field(default_factory=lambda: count(1))


def draw(explorer: Explorer) -> None:
    """Draw the page."""
    st.title("Which heads do the same?")
    st.markdown(
        "A **head** is a part of a layer that decides which words look at which. Give the model a text and see which "
        f"of its {explorer.card.layers * explorer.card.heads} heads attend alike on it, and whether the heads that "
        "pruning keeps stand for all of them."
    )
    inputs = _inputs(explorer)
    if not all(_has_words(text) for text in inputs):
        st.info("Type a text, or take one of the examples; the heads are compared as soon as every box has one.")
        return
    seen = _compared(explorer, inputs)
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
    _cut(shown)
    _picture(explorer, shown)
    if len(seen) > 1:
        _differences(explorer, seen)


# Texts -------------------------------------------------------------------------------------------------------


def _examples(kind: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((models.assets() / "examples" / f"{kind}.json").read_text("utf-8"))
    return found


def _inputs(explorer: Explorer) -> list[Input]:
    """The boxes, and what is in them."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        texts = st.segmented_control(
            "Texts to compare",
            range(1, _TEXTS + 1),
            default=1,
            required=True,
            key="similarity-texts",
            persist_state="session",
        )
        if "similarity-pairs" not in st.session_state:
            st.session_state["similarity-pairs"] = explorer.bench.calibration.second is not None
        pairs = st.toggle("Pairs of texts", key="similarity-pairs", persist_state="session")
    kind = "pairs" if pairs else "single"
    columns = st.columns(texts or 1)
    return [_box(column, kind, place) for place, column in enumerate(columns)]


def _box(column: Any, kind: str, place: int) -> Input:
    """One text, or the two of a pair."""
    examples = _examples(kind)
    parts = ("first", "second") if kind == "pairs" else ("text",)
    keys = [f"similarity-{part}-{place}" for part in parts]
    for key, part in zip(keys, parts, strict=True):
        if key not in st.session_state:
            st.session_state[key] = examples[place][part]
    choice = f"similarity-{kind}-example-{place}"

    def take() -> None:
        # Whoever types in the box afterwards may take the same example once more.
        chosen = st.session_state[choice]
        st.session_state[choice] = None
        if chosen is not None:
            for key, part in zip(keys, parts, strict=True):
                st.session_state[key] = examples[chosen][part]

    with column:
        typed = [
            st.text_area(
                f"Text {place + 1}" if len(parts) == 1 else f"Text {place + 1}, {part} part",
                key=key,
                height=100 if len(parts) == 1 else 68,
                max_chars=_LONGEST,
                placeholder="Type or paste a text",
                persist_state="session",
            )
            for key, part in zip(keys, parts, strict=True)
        ]
        st.selectbox(
            "Example",
            range(len(examples)),
            index=None,
            format_func=lambda index: examples[index]["name"],
            placeholder="Take an example",
            label_visibility="collapsed",
            key=choice,
            on_change=take,
        )
    texts = [text or "" for text in typed]
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _has_words(text: Input) -> bool:
    return all(part.strip() for part in ([text] if isinstance(text, str) else text))


def _compared(explorer: Explorer, inputs: Sequence[Input]) -> list[Seen] | None:
    """The heads on each text; None while that is being found out, or if it cannot be."""
    memory: _Memory = st.session_state.setdefault(_MEMORY, _Memory())
    wanted = tuple((explorer.card.sha256, text) for text in inputs)
    missing = [name for name in dict.fromkeys(wanted) if name not in memory.seen]
    if missing:
        if memory.job is None or memory.wanted != wanted:
            if memory.job is not None:
                memory.job.cancel()
            memory.wanted = wanted
            # A number, since a job's name may reach the log.
            memory.job = jobs.submit(
                explorer.id,
                f"similarity-{next(memory.numbers)}",
                partial(_compare, explorer, [text for _, text in missing]),
                rank=jobs.Rank.QUICK,
            )
        job = memory.job
        if not job.wait(0.7):
            follow(job, place="similarity")
            return None
        if job.result is None:
            _not_compared(memory, job)
            return None
        memory.job = None
        for name, (attention, apart) in zip(missing, job.result, strict=True):
            memory.seen[name] = Seen(next(memory.numbers), attention, apart)
    for name in wanted:
        memory.seen.move_to_end(name)
    while len(memory.seen) > len(set(wanted)) and sum(seen.nbytes for seen in memory.seen.values()) > _MEMORY_BYTES:
        memory.seen.popitem(last=False)
    return [memory.seen[name] for name in wanted]


def _compare(explorer: Explorer, texts: list[Input], progress: Progress) -> list[tuple[Attention, NDArray[np.float64]]]:
    model = explorer.model()
    found = []
    for text in texts:
        attention = attend(model, text)
        found.append((attention, distances(attention.weights, progress=progress)))
    return found


def _not_compared(memory: _Memory, job: jobs.Job[Any]) -> None:
    if job.error is not None:
        shell.problem(job.error)
    else:
        st.info("Stopped. Nothing was compared.")
    if st.button("Compare again", key="similarity-again"):
        memory.job = None
        st.rerun()


# One text ----------------------------------------------------------------------------------------------------


def _cut(seen: Seen) -> None:
    """Say so where a text was too long."""
    read, cut = len(seen.attention.tokens), seen.attention.cut
    if cut:
        st.warning(
            f"This text is longer than the model reads here: its first {read:,} tokens are compared, {cut:,} more "
            "were cut off."
        )


def _picture(explorer: Explorer, seen: Seen) -> None:
    mask, dark = explorer.mask, palette.dark()
    _settle_head(seen, mask)
    chosen = int(st.session_state[_HEAD])
    left, right = st.columns([3, 2], gap="medium")
    panel = left.container()
    with left:
        graph = seen.graph(_threshold(seen))
    covered = _coverage(explorer, graph)
    with panel:
        _graph_panel(graph, mask, chosen, covered, dark)
    with right:
        charts.show(
            grid_figure(mask, graph.communities, group="community", selected=chosen, dark=dark, width=370),
            title="Where the communities sit among the layers",
            help=(
                "One square a head: solid ones are kept by pruning, hollow ones are pruned. Colour and letter name "
                "the community on this text; the eight largest have a colour. The framed head is the one looked at "
                "below; click another."
            ),
            name="communities",
            data=lambda: figures.heads_table(graph.communities, mask),
            on_pick=_choose,
            alt=covered,
        )
        _head_box(graph, mask)
        st.dataframe(
            figures.communities_table(graph.communities, mask),
            hide_index=True,
            height=178,
            key="similarity-table",
        )
    _one_head(seen, mask, chosen, dark)
    picture, finding = figures.matrix(seen.distances, graph.communities, mask, dark=dark)
    charts.show(
        picture,
        title=finding,
        help="Every cell is a pair of heads; the strong blocks along the diagonal are the communities, framed. Orange "
        f"squares on the diagonal mark the heads that pruning keeps; click one to look at it. {_HOW}",
        formula=_DISTANCE,
        name="distances",
        data=lambda: figures.distance_table(seen.distances, mask.heads),
        on_pick=_choose,
    )


def _threshold(seen: Seen) -> float:
    similar = 1 - seen.distances[np.triu_indices(len(seen.distances), 1)]
    low, high = np.floor(100 * similar.min(initial=1)) / 100, np.ceil(100 * similar.max(initial=0)) / 100
    if high - low < 0.02:
        return seen.threshold
    return float(
        st.slider(
            "Join heads whose similarity is at least",
            float(low),
            float(high),
            float(np.clip(round(seen.threshold, 2), low, high)),
            0.01,
            key=f"similarity-threshold-{seen.number}",
            help="Few links show the strongest likenesses, many the whole net; communities follow from the links.",
        )
    )


def _settle_head(seen: Seen, mask: HeadMask) -> None:
    """A head to look at: the one chosen, or that of the link, or one of the two that are most alike."""
    total = mask.keep.size
    chosen = st.session_state.get(_HEAD)
    if chosen is None:
        linked = st.query_params.get("head", "")
        chosen = int(linked) if linked.isascii() and linked.isdigit() and len(linked) < 6 else None
    if chosen is None or chosen >= total:
        # Two heads that do the same show at once what redundancy looks like.
        apart = seen.distances + np.diag(np.full(total, np.inf))
        chosen = int(np.argmin(apart)) // total
    st.session_state[_HEAD] = chosen
    if st.query_params.get("head") != str(chosen):
        st.query_params["head"] = str(chosen)


def _choose(head: int) -> None:
    st.session_state[_HEAD] = head


def _head_box(graph: HeadGraph, mask: HeadMask) -> None:
    def named(head: int) -> str:
        group, state = palette.letters(int(graph.communities[head])), "kept" if mask.keep.flat[head] else "pruned"
        return f"{head_name(head, mask.heads)} · {group} · {state}"

    st.selectbox("Head to look at", range(mask.keep.size), format_func=named, key=_HEAD, persist_state="session")


def _coverage(explorer: Explorer, graph: HeadGraph) -> str:
    """Whether the survivors stand for every community of this text, in words."""
    groups = int(graph.communities.max()) + 1
    if explorer.run is None:
        return f"{groups} communities of heads attend alike on this text"
    kept, missed = explorer.mask.count, uncovered(graph.communities, explorer.mask)
    if not missed:
        return f"The {kept} kept heads stand for all {groups} communities of this text"
    sizes = np.bincount(graph.communities)
    named = ", ".join(f"{palette.letters(group)} ({sizes[group]} heads)" for group in missed[:6])
    more = f" and {len(missed) - 6} more" if len(missed) > 6 else ""
    return (
        f"The {kept} kept heads stand for {groups - len(missed)} of {groups} communities of this text; "
        f"none is kept of {named}{more}"
    )


def _graph_panel(graph: HeadGraph, mask: HeadMask, chosen: int, covered: str, dark: bool) -> None:
    charts.heading(
        covered,
        name="head-graph",
        help=(
            "Every node is a head (layer.head); filled nodes are kept by pruning, hollow ones are pruned. "
            f"{int((~graph.backbone).sum())} solid links join heads at least as similar as the slider says, thicker "
            "ones more so; dashed links belong to the tree that holds the graph together. Communities (Louvain) are "
            f"groups with more links inside than chance would give, modularity {graph.modularity:.2f}. Nearness on the "
            f"page only hints at likeness. Click a node to look at its head. {_HOW}"
        ),
        formula=_DISTANCE,
        data=lambda: {
            "first": [head_name(head, mask.heads) for head in graph.edges[:, 0].tolist()],
            "second": [head_name(head, mask.heads) for head in graph.edges[:, 1].tolist()],
            "similarity": graph.similarity.round(4).tolist(),
            "above threshold": (~graph.backbone).tolist(),
        },
    )
    show_graph(
        graph_html(graph, mask, dark=dark), heads=len(graph.communities), chosen=chosen, on_pick=_choose, alt=covered
    )


def _one_head(seen: Seen, mask: HeadMask, chosen: int, dark: bool) -> None:
    """What the chosen head attends to, which heads do the same, and where they sit."""
    attention, apart, heads = seen.attention, seen.distances, mask.heads
    weights, name = attention.by_head[chosen], head_name(chosen, heads)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        charts.show(
            attention_figure(attention.tokens, weights, dark=dark, height=470),
            title=f"{name.capitalize()} {figures.habit(weights)}",
            help=(
                "Each row is a token that looks, each column a token it looks at; a row sums to 1. The stronger a "
                "cell, the more attention; weak attention is spread out on the scale so that it shows beside strong."
            ),
            name="attention",
            data=lambda: figures.attention_table(attention.tokens, weights),
            alt=f"Attention of {name} over {len(attention.tokens)} tokens.",
        )
    with right:
        picture, finding = figures.among_layers(apart, mask, chosen, dark=dark)
        charts.show(
            picture,
            title=finding,
            help=(
                "Every square is a head, in its layer's row; the farther left, the more it attends like the chosen "
                "head (star). Click a square to look at that head."
            ),
            name="among-layers",
            data=lambda: {**figures.heads_table(seen.graph().communities, mask), "distance": apart[chosen].tolist()},
            on_pick=_choose,
        )
    near = nearest(apart, chosen, count=3)
    if near:
        state = "kept" if mask.keep.flat[near[0]] else "pruned"
        charts.show(
            figures.beside(attention, apart, [chosen, *near], heads=heads, dark=dark),
            title=f"{head_name(near[0], heads).capitalize()} ({state}) is most like it: "
            f"{apart[chosen, near[0]]:.2f} apart on a scale to 1",
            help="The attention of the chosen head and of the three heads most like it on this text, on one scale of "
            f"colours. {_HOW}",
            formula=_DISTANCE,
            name="nearest",
            data={
                "head": [head_name(head, heads) for head in near],
                "distance": [round(float(apart[chosen, head]), 4) for head in near],
                "kept": [bool(mask.keep.flat[head]) for head in near],
            },
        )


# Several texts -----------------------------------------------------------------------------------------------


def _differences(explorer: Explorer, seen: Sequence[Seen]) -> None:
    """What changes between two of the texts."""
    st.header("What changes between the texts")
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
        help="Adjusted Rand index, each text at its usual threshold: 1 the same groups, 0 as by chance.",
    )
    change.metric("Mean change of a distance", f"{moved.mean() if len(moved) else 0:.2f}", help="Over all pairs, 0..1.")
    if explorer.run is not None:
        missing.metric(
            "Communities without a kept head",
            " and ".join(str(len(uncovered(group, explorer.mask))) for group in groups),
            help=f"On {names[0]} and on {names[1]}.",
        )
    found = changes(one.distances, other.distances, count=12)
    picture, finding = figures.dumbbells(found, names, heads=heads, dark=palette.dark())
    charts.show(
        picture,
        title=finding,
        help="The pairs of heads whose distance differs most between the two texts: the circle is the first text, the "
        f"square the second. {_HOW}",
        formula=_DISTANCE,
        name="changes",
        data={
            "first head": [head_name(pair.first, heads) for pair in found],
            "second head": [head_name(pair.second, heads) for pair in found],
            names[0]: [round(pair.before, 4) for pair in found],
            names[1]: [round(pair.after, 4) for pair in found],
        },
    )
