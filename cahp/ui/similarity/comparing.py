"""Texts that a person types, and the heads compared on them.

The worker compares; texts and results live in the browser session only: in no file, shared cache, address or log.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp.run.bench import Bench
from cahp.stages.similarity import Attention, HeadGraph, attend, distances, head_graph, suggest_threshold
from cahp.ui.frame.running import follow, offer_again
from cahp.ui.parts.inputs import input_box, keep
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import Kind
from cahp.values import Input, Progress

#: Session key of the results, and their size in bytes; those on screen always stay.
_MEMORY, _MEMORY_BYTES = "similarity-memory", 256 << 20
#: Texts that can be compared at once.
_TEXTS = 4
#: Session keys: the number of boxes, and whether each is for a pair.
_NUMBER, _PAIRS = "similarity-texts", "similarity-pairs"

#: The distance of two heads, as a formula and in words.
FORMULA = r"d(a, b) = \frac{1}{S} \sum_{i=1}^{S} \sqrt{\mathrm{JSD}_2(a_i, b_i)}"
HOW = (
    "Each head gives every token a row of attention weights that sum to 1. Two heads are compared row by row with the "
    "square root of the Jensen-Shannon divergence (base 2), averaged over the tokens: 0 means the same attention, 1 "
    "means they never attend to the same token. Similarity is 1 minus that distance."
)


@dataclass(frozen=True, eq=False)
class Seen:
    """The attention of all heads on one text, their distances, and a ``number`` that stands for the text."""

    attention: Attention
    distances: NDArray[np.float64]
    graphs: dict[float, HeadGraph] = field(default_factory=dict)
    number: int = field(default_factory=count().__next__)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.attention.weights.nbytes + self.distances.nbytes

    @property
    def threshold(self) -> float:
        """The default similarity above which heads are linked."""
        return suggest_threshold(self.distances)

    def graph(self, threshold: float | None = None) -> HeadGraph:
        """Return the graph of heads linked above a similarity."""
        wanted = self.threshold if threshold is None else threshold
        if wanted not in self.graphs:
            self.graphs[wanted] = head_graph(self.distances, threshold=wanted)
        return self.graphs[wanted]


def draw_boxes(explorer: Explorer) -> list[Input]:
    """Draw the boxes, and return their texts."""
    boxes = {f"similarity-{part}-{place}": str for part in ("text", "first", "second") for place in range(_TEXTS)}
    keep("similarity", {_NUMBER: int, _PAIRS: bool, **boxes})
    if st.session_state.get(_NUMBER) not in range(1, _TEXTS + 1):
        st.session_state[_NUMBER] = 1
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        number = st.segmented_control(
            "Texts to compare",
            range(1, _TEXTS + 1),
            required=True,
            key=_NUMBER,
            persist_state="session",
        )
        if _PAIRS not in st.session_state:
            st.session_state[_PAIRS] = explorer.bench.calibration.second is not None
        pairs = st.toggle("Pairs of texts", key=_PAIRS, persist_state="session")
    kind: Literal["single", "pairs"] = "pairs" if pairs else "single"
    columns = st.columns(number or 1)
    texts = []
    for place, column in enumerate(columns):
        with column:
            texts.append(input_box("similarity", kind, label=f"Text {place + 1}", place=place))
    return texts


def _compare(asked: tuple[Bench, tuple[Input, ...]], progress: Progress) -> list[Seen]:
    bench, texts = asked
    seen = []
    for text in texts:
        attention = attend(bench.model, text)
        seen.append(Seen(attention, distances(attention.weights, progress=progress)))
    return seen


#: Compare the heads on texts. Its name may reach the log, so it holds no text.
COMPARE: Kind[tuple[Bench, tuple[Input, ...]], list[Seen]] = Kind(
    _compare, lambda asked: f"similarity-{hash((asked[0].card.sha256, asked[1]))}", awaited=False, newest=True
)


def compare_heads(explorer: Explorer, texts: Sequence[Input]) -> list[Seen] | None:
    """Compare the heads on each text (None: running, stopped or failed)."""
    memory: OrderedDict[tuple[str, Input], Seen] = st.session_state.setdefault(_MEMORY, OrderedDict())
    names = [(explorer.card.sha256, text) for text in texts]
    missing = [name for name in dict.fromkeys(names) if name not in memory]
    if missing:
        asked = explorer.bench, tuple(text for _, text in missing)
        job = explorer.work.job(COMPARE, asked) or explorer.work.start(COMPARE, asked)
        if not job.wait(0.7):
            follow(job, place="similarity")
            return None
        if job.result is None:
            offer_again(
                job,
                lambda: explorer.work.start(COMPARE, asked),
                key="similarity-again",
                label="Compare again",
                stopped="Stopped. Nothing was compared.",
            )
            return None
        memory.update(zip(missing, job.result, strict=True))
        explorer.work.take(COMPARE)
    for name in names:
        memory.move_to_end(name)
    while len(memory) > len(set(names)) and sum(seen.nbytes for seen in memory.values()) > _MEMORY_BYTES:
        memory.popitem(last=False)
    return [memory[name] for name in names]
