"""The peers on screen: a tab of Compare, and a sentence on the Budget page of a language model."""

from __future__ import annotations

import shlex
from typing import Any

import streamlit as st

from cahp.comparison import SplitResults
from cahp.features.peers.figure import describe_points, has_axis, peers_figure
from cahp.features.peers.result import (
    COLUMNS,
    PeersDocument,
    describe_gains,
    describe_winner,
    read_bundled,
    table_rows,
)
from cahp.ui.frame import Panel
from cahp.ui.parts import display
from cahp.ui.parts.display import plain
from cahp.ui.session import Explorer
from cahp.words import capital

_NAMES = {"cache": "Cache", "weights": "Weights", "speed": "Speed"}


def draw_peers(results: SplitResults, view: Any) -> None:
    """Draw the peers of the model of a comparison: the finding, the figure with its axis, the table."""
    model = results.document.model
    document = find_document(model.id, model.sha256)
    if document is None:
        st.markdown(
            "Other ways to shrink the cache of keys and values, such as fewer bits, are not measured for "
            f"{plain(model.id)}; this command measures them, for a causal language model:"
        )
        st.code(shlex.join(("cahp", "experiment", "peers", model.id[:200])), language="bash", wrap_lines=True)
        return
    axes = [name for name in _NAMES if has_axis(document, name)]
    axis = st.segmented_control("Axis", axes, default="cache", format_func=_NAMES.__getitem__, key="peers-axis")
    axis = axis or "cache"
    finding, *further = describe_winner(document).split("; ")
    rows = table_rows(document)
    table = {name: [row[name] for row in rows] for name in COLUMNS}
    display.show(
        peers_figure(document, axis, dark=display.is_dark()),
        title=capital(finding),
        help="Ways to make the cache of keys and values smaller, on the same texts. Bars are 95 % intervals over "
        f"{len(document.seeds)} seeds and documents. Rounded caches and streaming heads are simulated: their outputs "
        "are real, their bytes are counted.",
        name="compare-peers",
        alt=describe_points(document),
        data=table,
    )
    for sentence in (*further, describe_gains(document)):
        st.caption(plain(f"{capital(sentence)}."))
    st.dataframe(table, hide_index=True)


def find_document(model: str, sha256: str) -> PeersDocument | None:
    """Find the bundled document of exactly this model."""
    document = read_bundled(model)
    if document is None or document.sha256 != sha256:
        return None
    return document


def draw_note(explorer: Explorer) -> None:
    """Say which way to shrink the cache is nearest to the full model, where that was measured."""
    document = find_document(explorer.card.id, explorer.card.identity)
    if document is not None:
        st.caption(plain(f"{capital(describe_winner(document))}. {describe_gains(document)}."))


TAB = Panel("Other ways", draw_peers, place=10)
NOTE = Panel("", draw_note, place=10)
