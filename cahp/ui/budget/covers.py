"""Where the heads lie, and who covers for one that was pruned."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import streamlit as st

from cahp import models
from cahp.stages.similarity import Attention, attend
from cahp.studies.budget_sweep import HeadClusters, nearest_kept
from cahp.ui.frame import page as shell
from cahp.ui.frame.progress import follow
from cahp.ui.parts import chart as charts
from cahp.ui.parts import palette
from cahp.ui.parts.attention_map import attention_figure
from cahp.ui.parts.head_grid import head_name
from cahp.ui.parts.text import plain
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.values import digest


def draw(explorer: Explorer) -> None:
    """The head that was clicked last, its cover, and both attention maps on a sentence."""
    head, evidence = explorer.selected, explorer.evidence
    assert evidence is not None
    heads = evidence.heads
    if head is None or head >= evidence.salience.size:
        st.markdown("Click a head on the board, or press **i** on it, to see who covers for it.")
        return
    labels, mask = explorer.labels, explorer.mask
    cover, distance, same = nearest_kept(evidence, mask, head, labels)
    others = evidence.distances[np.triu_indices(len(labels), 1)]
    kept = bool(mask.keep.flat[head])
    name, stand_in = head_name(head, heads), head_name(cover, heads)
    cluster = palette.letters(int(labels[head]))
    mates = int((labels == labels[head]).sum()) - 1
    whose = f"cluster {cluster} ({mates} other head{'s' * (mates != 1)})"
    who = (
        f"the nearest survivor of its cluster is **{stand_in}**"
        if same
        else f"no other head of its cluster stays, so the nearest survivor is **{stand_in}** of cluster "
        f"{palette.letters(int(labels[cover]))}"
    )
    st.markdown(
        f"**{name[:1].upper() + name[1:]}** is {'kept' if kept else 'pruned'} and belongs to {whose}; {who}, at a "
        f"distance of {distance:.1f}. Two heads lie {float(np.median(others)):.1f} apart on median."
    )
    _maps(explorer, head, cover)


def _maps(explorer: Explorer, head: int, cover: int) -> None:
    examples = json.loads((models.assets() / "examples" / "single.json").read_text(encoding="utf-8"))
    names = [example["name"] for example in examples]
    picked = st.selectbox("Sentence", names, key="cover-sentence")
    text = examples[names.index(picked)]["text"]
    st.caption(plain(text))
    found = _attention(explorer, text)
    if found is None:
        return
    maps = found.by_head
    top = float(max(maps[head].max(), maps[cover].max()))
    dark = palette.dark()
    for column, which, role in zip(st.columns(2), (head, cover), ("asked about", "covers"), strict=True):
        with column:
            charts.show(
                attention_figure(found.tokens, maps[which], dark=dark, top=top),
                title=f"{head_name(which, explorer.card.heads).capitalize()} ({role})",
                help="Each row is a token that looks, each column one that is looked at; a row sums to 1. Two heads "
                "that do the same show the same pattern. Both maps share one scale.",
                name=f"cover-{role.replace(' ', '-')}",
                data={
                    "looks": [token for token in found.tokens for _ in found.tokens],
                    "looked at": list(found.tokens) * len(found.tokens),
                    "attention": maps[which].ravel().tolist(),
                },
            )


def _attention(explorer: Explorer, text: str) -> Attention | None:
    """The attention of all heads, from the worker; None while it is on its way."""
    key = f"attention-{explorer.card.sha256[:12]}-{digest(text)[:12]}"
    job = st.session_state.get("cover-attention")
    if job is None or job.key != key:
        job = jobs.submit(explorer.id, key, lambda _: attend(explorer.model(), text), rank=jobs.Rank.QUICK)
        st.session_state["cover-attention"] = job
        job.wait(0.3)
    if not job.ended:
        follow(job, place="attention", title="Reading the sentence")
        return None
    if job.error:
        shell.problem(job.error)
    found: Attention | None = job.result
    return found


def space_figure(explorer: Explorer, evidence: HeadClusters) -> Any:
    """The heads in the plane of the projection."""
    import plotly.graph_objects as go

    labels, mask = explorer.labels, explorer.mask
    colours, ink = palette.hues(labels), palette.ink(dark=palette.dark())
    x, y = evidence.embedding.T
    salience = evidence.salience.ravel()
    kept = mask.keep.ravel()
    size = 9 + 15 * np.sqrt(salience)
    figure = go.Figure()
    for here, symbol, name in ((kept, "circle", "kept"), (~kept, "circle-open", "pruned")):
        shown = np.flatnonzero(here)
        figure.add_trace(
            go.Scatter(
                x=x[shown],
                y=y[shown],
                mode="markers+text" if len(labels) <= 160 else "markers",
                text=[palette.letters(int(labels[head])) for head in shown],
                textposition="top center",
                textfont={"size": 10, "color": ink.text},
                marker={
                    "symbol": symbol,
                    "size": size[shown],
                    "color": [colours[labels[head]] for head in shown],
                    "line": {"width": 2 if symbol == "circle-open" else 0},
                    "opacity": 1,
                },
                customdata=shown,
                hovertext=[
                    f"{head_name(int(head), evidence.heads)}<br>{name}, cluster "
                    f"{palette.letters(int(labels[head]))}<br>salience {salience[head]:.2f}"
                    for head in shown
                ],
                hoverinfo="text",
                name=name,
                selected={"marker": {"opacity": 1}},
                unselected={"marker": {"opacity": 1}},
            )
        )
    best = _most_salient(labels, salience)
    figure.add_trace(
        go.Scatter(
            x=x[best],
            y=y[best],
            mode="markers",
            marker={"symbol": "circle-open", "size": size[best] + 7, "color": ink.text, "line": {"width": 1.5}},
            hoverinfo="skip",
            name="most salient of its cluster",
        )
    )
    names = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA", "none": "PCA"}
    axis = names[explorer.settings.projection]
    figure.update_layout(
        height=460,
        margin={"l": 50, "r": 10, "t": 30, "b": 46},
        xaxis={"title": {"text": f"{axis} 1 (no unit)"}, "zeroline": False},
        yaxis={"title": {"text": f"{axis} 2 (no unit)"}, "zeroline": False},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
    )
    return figure


def _most_salient(labels: np.ndarray[Any, Any], salience: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    order = np.argsort(-salience, kind="stable")
    _, first = np.unique(labels[order], return_index=True)
    return np.asarray(order[first])


def space_table(explorer: Explorer, evidence: HeadClusters) -> dict[str, list[Any]]:
    """The numbers of the figure."""
    labels, every = explorer.labels, range(evidence.salience.size)
    return {
        "layer": [head // evidence.heads for head in every],
        "head": [head % evidence.heads for head in every],
        "x": evidence.embedding[:, 0].tolist(),
        "y": evidence.embedding[:, 1].tolist(),
        "cluster": [palette.letters(int(label)) for label in labels],
        "salience": evidence.salience.ravel().tolist(),
        "kept": [int(kept) for kept in explorer.mask.keep.ravel()],
    }
