"""Figures for download: the kept heads, accuracy by budget, and the silhouette curve."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from cahp.figures import palette
from cahp.figures.curves import accuracy_by_budget, silhouette
from cahp.figures.head_grid import grid_figure
from cahp.recoveries import RECOVERIES
from cahp.ui.export.view import View
from cahp.ui.parts import display
from cahp.ui.session.explorer import Explorer


def grid(view: View) -> None:
    """Draw the kept heads."""
    labels = view.labels
    columns: dict[str, Any] = {
        "layer": np.arange(view.mask.keep.size) // view.mask.heads,
        "head": np.arange(view.mask.keep.size) % view.mask.heads,
        "kept": view.mask.keep.ravel().astype(int),
    }
    if labels is not None:
        columns["cluster"] = [palette.letters(int(label)) for label in labels]
    display.show(
        grid_figure(view.mask, labels, dark=display.is_dark(), width=430),
        title=f"{view.mask.count} of {view.mask.keep.size} heads kept",
        help="Each square is a head: solid ones are kept, hollow ones pruned. The letter names the cluster.",
        name="heads",
        data=columns,
        alt="; ".join(f"layer {layer} keeps {heads}" for layer, heads in enumerate(view.mask.by_layer)),
    )


def silhouette_curve(explorer: Explorer) -> None:
    """Draw the silhouette by number of clusters."""
    evidence = explorer.clusters
    if evidence is None:
        return
    clustering = evidence.clustering
    display.show(
        silhouette(clustering.ks, clustering.mss, clustering.knee or None, dark=display.is_dark()),
        title=f"The knee is at {clustering.knee} clusters" if clustering.knee else "The curve has no knee",
        help="Mean silhouette of k clusters of heads: higher means better separated. After the knee, more clusters add "
        "little.",
        name="silhouette",
        data={"k": clustering.ks.tolist(), "silhouette": clustering.mss.tolist()},
    )


def accuracy_curve(explorer: Explorer) -> None:
    """Draw accuracy by budget, if the Budget page has measured it."""
    swept = explorer.swept
    table = explorer.table(swept)
    rows = [] if table is None else table.rows()
    measured = [(row.budget, row.outcomes["accuracy"]) for row in rows if row.outcomes is not None]
    if len(measured) < 2:
        st.caption("Accuracy by budget appears here once the Budget page has measured it.")
        return
    display.show(
        accuracy_by_budget(rows, dark=display.is_dark()),
        title=f"Accuracy, {RECOVERIES[swept].result}, at {len(measured)} budgets (n = {measured[0][1].n:,})",
        help=f"Accuracy of the pruned model, {RECOVERIES[swept].result}, with Wilson's 95 % intervals, at the budgets "
        "that were measured.",
        name="accuracy",
        data={
            "heads": [budget for budget, _ in measured],
            "accuracy": [one.value for _, one in measured],
            "low": [one.low for _, one in measured],
            "high": [one.high for _, one in measured],
            "n": [one.n for _, one in measured],
        },
    )
