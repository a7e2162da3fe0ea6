"""The tabs below the board: where the heads lie, and the changed predictions."""

from __future__ import annotations

from functools import partial

import numpy as np
import streamlit as st

from cahp.board.colourings import mark_clusters
from cahp.figures.head_grid import places
from cahp.figures.space import space_figure
from cahp.ui.frame.running import job_card
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.work import FLIPS

#: The distance of two heads: by how they separate two classes, or without classes by their mean maps.
_SEPARATION = r"BD=\frac{(\mu_a-\mu_b)^2}{4(v_a+v_b)}+\frac12\ln\frac{v_a+v_b}{2\sqrt{v_av_b}},\quad JM=2(1-e^{-BD})"
_HELLINGER = r"d(h,g)=\sqrt{\textstyle\sum_i\left(\sqrt{\mu^{(h)}_i}-\sqrt{\mu^{(g)}_i}\right)^2}"


def draw_space(explorer: Explorer) -> None:
    """Draw all heads in the plane in which they are clustered, coloured by cluster."""
    clusters = explorer.clusters
    assert clusters is not None
    labels = explorer.board.labels
    mask = explorer.mask
    settings = explorer.settings
    dark = display.is_dark()
    head = explorer.selected
    unit = explorer.card.unit
    lit = None
    if head is not None and head < len(labels):
        # The first of its cluster: the figure is the same for all of them.
        lit = int(np.argmax(labels == labels[head]))
    formula = _HELLINGER
    if explorer.card.task.predicts_labels:
        formula = _SEPARATION
    source = "distances in this plane"
    if settings.projection == "none":
        source = "all features, not from this plane"
    display.show(
        cache_with(
            clusters,
            ("space", mask.sha256, labels.tobytes(), settings.projection, lit, dark),
            lambda: space_figure(
                clusters.embedding,
                clusters.salience,
                mark_clusters(labels, clusters.families),
                mask,
                settings,
                lit=lit,
                unit=unit,
                dark=dark,
            ),
        ),
        title=f"{mask.count} kept {unit}s among {len(np.unique(labels))} clusters",
        help=f"Each point is a {unit}. Those that {explorer.card.words.likeness} lie close together. "
        "Letter: cluster. Colour: family of clusters, the same at every budget. Size: salience. Solid: kept; light: "
        "pruned; ring: the most salient head of its cluster. Crossed: a family that shares its colour with a larger "
        f"one. Framed: the cluster of the one clicked last. Click a point to open its card. The clusters are computed "
        f"from {source}.",
        formula=formula,
        name="space",
        data=lambda: {
            **places(clusters.layers, clusters.heads),
            **_replaceable(explorer),
            "x": clusters.embedding[:, 0].tolist(),
            "y": clusters.embedding[:, 1].tolist(),
            "cluster": clusters.names(labels),
            "salience": clusters.salience.ravel().tolist(),
            "kept": mask.keep.ravel().astype(int).tolist(),
        },
        on_pick=partial(_open_card, explorer),
    )


def _open_card(explorer: Explorer, head: int) -> None:
    explorer.selected = head
    explorer.card_head = head


def _replaceable(explorer: Explorer) -> dict[str, list[float]]:
    """The column of shares that other kept heads can reproduce, if they are measured."""
    shares = explorer.replaceable_shares
    if shares is None:
        return {}
    return {f"reproduced by other kept {explorer.card.unit}s": shares.ravel().tolist()}


def draw_flips(explorer: Explorer) -> None:
    """Draw the texts whose prediction changes under the mask, on request."""
    if explorer.lacks_distilled:
        st.caption("Distil this mask first (above).")
        return
    board = explorer.board_state(explorer.ready_recovery)
    if explorer.work.job(FLIPS, board) is None:
        st.markdown("Which predictions change under this mask?")
    compared = job_card(explorer, FLIPS, board, name="show-flips", title="Comparing predictions", offer="Show them")
    if compared is not None:
        texts = explorer.bench.evaluation
        differ, total = compared.counts
        finding = f"{differ:,} of {total:,} predictions changed"
        if texts.labelled:
            lost, won = compared.right_alone
            finding += f": {lost} became wrong, {won} became right, {differ - lost - won} stayed wrong"
        st.markdown(f"**{finding}.**")
        if differ:
            everything = f"all {explorer.card.unit}s"
            table = compared.table(texts, everything, "this mask", classes=explorer.bench.class_names)
            if texts.task.predicts_often:
                items = texts.task.words.items
                st.caption(f"The {items} in which the pruned model differs most from the full one (nats per token).")
            display.show_texts(table, key="flips")
            numbers = dict(table)
            if not texts.task.items_are_texts:
                # A part of a document stays in the session.
                numbers.pop("text")
            display.download_csv(numbers, "flips", file="changed-answers.csv")
