"""Heads compared on texts: computed by the worker, kept in the browser session only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cahp.stages.similarity import Attention, HeadGraph, attend, distances, head_graph, suggest_threshold
from cahp.ui.frame.running import follow
from cahp.ui.parts.display import problem
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.values import Input, Progress

#: Memory of a session's results in bytes; those on screen always stay.
_MEMORY_BYTES = 256 << 20
_MEMORY = "similarity-memory"

#: The distance of two heads, as a formula and in words.
FORMULA = r"d(a, b) = \frac{1}{S} \sum_{i=1}^{S} \sqrt{\mathrm{JSD}_2(a_i, b_i)}"
HOW = (
    "Each head gives every token a row of attention weights that sum to 1. Two heads are compared row by row with the "
    "square root of the Jensen-Shannon divergence (base 2), averaged over the tokens: 0 means the same attention, 1 "
    "means they never attend to the same token. Similarity is 1 minus that distance."
)


@dataclass(frozen=True, eq=False)
class Seen:
    """The attention of all heads on one text, and their distances."""

    number: int
    attention: Attention
    distances: NDArray[np.float64]
    graphs: dict[float, HeadGraph] = field(default_factory=dict)

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


@dataclass
class _Memory:
    """Results of this session, and the running job."""

    seen: OrderedDict[tuple[str, Input], Seen] = field(default_factory=OrderedDict)
    job: jobs.Job[list[tuple[Attention, NDArray[np.float64]]]] | None = None
    wanted: tuple[tuple[str, Input], ...] = ()
    numbers: Any = field(default_factory=lambda: count(1))


def compared(explorer: Explorer, inputs: Sequence[Input]) -> list[Seen] | None:
    """Compare the heads on each text (None: running, stopped or failed)."""
    memory: _Memory = st.session_state.setdefault(_MEMORY, _Memory())
    wanted = tuple((explorer.card.sha256, text) for text in inputs)
    missing = [name for name in dict.fromkeys(wanted) if name not in memory.seen]
    if missing:
        if memory.job is None or memory.wanted != wanted:
            if memory.job is not None:
                memory.job.cancel()
            memory.wanted = wanted
            # A number, because the name of a job may reach the log.
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
        problem(job.error)
    else:
        st.info("Stopped. Nothing was compared.")
    if st.button("Compare again", key="similarity-again"):
        memory.job = None
        st.rerun()
