"""The replacement of a head: the kept head nearest to it."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cahp.figures import palette
from cahp.figures.attention_map import attention_figure
from cahp.figures.head_grid import head_name
from cahp.figures.heads import called
from cahp.stages.similarity import Attention, attend
from cahp.ui.frame.page import link
from cahp.ui.frame.running import follow
from cahp.ui.parts import display
from cahp.ui.parts.display import plain, problem
from cahp.ui.parts.inputs import load_examples
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.values import digest


def draw(explorer: Explorer) -> None:
    """Draw the head that was clicked last, its replacement, and both attention maps on a sentence."""
    head, clusters = explorer.selected, explorer.clusters
    assert clusters is not None
    heads = clusters.heads
    if head is None or head >= clusters.salience.size:
        # A plain click drops it.
        st.markdown(
            "To see which head covers for another, set the switch below the slider to “show what covers for it” and "
            "click the head. Shift-click or the key **i** does the same."
        )
        return
    labels, mask = explorer.board.labels, explorer.mask
    cover, distance, same = clusters.nearest_kept(mask, head, labels)
    apart = clusters.distances[np.triu_indices(len(labels), 1)]
    kept = bool(mask.keep.flat[head])
    name, stand_in = head_name(head, heads), head_name(cover, heads)
    cluster = palette.letters(int(labels[head]))
    others = int((labels == labels[head]).sum()) - 1
    whose = f"cluster {cluster} ({others} other head{'s' * (others != 1)})"
    who = (
        f"the nearest kept head of its cluster is **{stand_in}**"
        if same
        else f"no other head of its cluster is kept, so the nearest kept head is **{stand_in}** of cluster "
        f"{palette.letters(int(labels[cover]))}"
    )
    st.markdown(
        f"**{name[:1].upper() + name[1:]}** is {'kept' if kept else 'pruned'} and belongs to {whose}; {who}, at a "
        f"distance of {distance:.1f}. The median distance of two heads is {float(np.median(apart)):.1f}."
    )
    link("similarity", f"More about {name} →", view="head", head=called(head, heads))
    _maps(explorer, head, cover)


def _maps(explorer: Explorer, head: int, cover: int) -> None:
    ready = {example["name"]: example["text"] for example in load_examples("single")}
    text = ready[st.selectbox("Sentence", list(ready), key="cover-sentence")]
    st.caption(plain(text))
    found = _attention(explorer, text)
    if found is None:
        return
    maps = found.by_head
    top = float(max(maps[head].max(), maps[cover].max()))
    dark = display.is_dark()
    for column, which, role in zip(st.columns(2), (head, cover), ("chosen", "replacement"), strict=True):
        with column:
            display.show(
                attention_figure(found.tokens, maps[which], dark=dark, top=top),
                title=f"{head_name(which, explorer.card.heads).capitalize()} ({role})",
                help="Each row is a query token, each column a token it attends to; a row sums to 1. Heads that attend "
                "alike show the same pattern. Both maps share one scale.",
                name=f"cover-{role.replace(' ', '-')}",
                data={
                    "looks": [token for token in found.tokens for _ in found.tokens],
                    "looked at": list(found.tokens) * len(found.tokens),
                    "attention": maps[which].ravel().tolist(),
                },
            )


def _attention(explorer: Explorer, text: str) -> Attention | None:
    """Return the attention of all heads (None: the worker is computing it)."""
    key = f"attention-{explorer.card.sha256[:12]}-{digest(text)[:12]}"
    job = st.session_state.get("cover-attention")
    if job is None or job.key != key:
        job = jobs.submit(explorer.id, key, lambda _: attend(explorer.model(), text), rank=jobs.Rank.QUICK)
        st.session_state["cover-attention"] = job
        job.wait(0.3)
    if not job.ended:
        follow(job, place="attention", title="Running the sentence")
        return None
    if job.error:
        problem(job.error)
    found: Attention | None = job.result
    return found
