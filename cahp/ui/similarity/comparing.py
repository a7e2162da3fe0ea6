"""A text that a person types, and the heads compared on it.

The worker compares; text and results live in the browser session only: in no file, shared cache, address or log.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count

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
#: Session key: whether the box is for a pair.
_PAIRS = "similarity-pairs"

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


def draw_box(explorer: Explorer) -> Input:
    """Draw the box for a text or a pair of texts, and return its content."""
    keep("similarity", {_PAIRS: bool, **{f"similarity-{part}-0": str for part in ("text", "first", "second")}})
    if _PAIRS not in st.session_state:
        st.session_state[_PAIRS] = explorer.bench.calibration.second is not None
    pairs = st.toggle("Pair of texts", key=_PAIRS, persist_state="session")
    return input_box("similarity", "pairs" if pairs else "single", label="Text")


def _compare(asked: tuple[Bench, Input], progress: Progress) -> Seen:
    bench, text = asked
    attention = attend(bench.model, text)
    return Seen(attention, distances(attention.weights, progress=progress))


#: Compare the heads on a text. Its name may reach the log, so it holds no text.
COMPARE: Kind[tuple[Bench, Input], Seen] = Kind(
    _compare, lambda asked: f"similarity-{hash((asked[0].card.sha256, asked[1]))}", awaited=False, newest=True
)


def compare_heads(explorer: Explorer, text: Input) -> Seen | None:
    """Compare the heads on a text (None: running, stopped or failed)."""
    memory: OrderedDict[tuple[str, Input], Seen] = st.session_state.setdefault(_MEMORY, OrderedDict())
    name, asked = (explorer.card.sha256, text), (explorer.bench, text)
    if name not in memory:
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
        memory[name] = job.result
        explorer.work.take(COMPARE)
    memory.move_to_end(name)
    while len(memory) > 1 and sum(seen.nbytes for seen in memory.values()) > _MEMORY_BYTES:
        memory.popitem(last=False)
    return memory[name]
