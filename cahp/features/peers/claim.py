"""The peers as a claim on Compare, and in a sentence on the Budget page of a language model."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

import streamlit as st

from cahp.features.peers.result import (
    PeersDocument,
    describe_gains,
    describe_winner,
    read_bundled,
    table_rows,
)
from cahp.show import Block, Claim, Line, Table, Text
from cahp.ui.frame import Panel
from cahp.ui.parts import plain
from cahp.ui.session import Explorer
from cahp.words import capital

if TYPE_CHECKING:
    from cahp.comparison import ComparisonDocument

_TITLE = "Other ways to shrink the cache"


def find_peers(comparison: ComparisonDocument) -> Claim | None:
    """Return the claim for the model of a comparison (None: it is no language model, and has no cache)."""
    if comparison.protocols is None:
        return None
    model = comparison.model
    document = find_document(model.id, model.sha256)
    if document is not None:
        return Claim("peers", _TITLE, "measured", lambda: show_peers(document))
    command = shlex.join(("cahp", "experiment", "peers", model.id[:200]))
    missing = Text(
        f"Not measured for {model.id[:200]}; this command measures it, for a causal language model: {command}"
    )
    return Claim("peers", _TITLE, "not measured", lambda: [missing])


def show_peers(document: PeersDocument) -> Iterator[Block]:
    """Yield what is nearest to the full model, at how many bytes, and all numbers."""
    for sentence in describe_winner(document).split("; "):
        yield Line(sentence)
    yield Text(
        f"{describe_gains(document)}. 95 % intervals over {len(document.seeds)} seeds and documents. Rounded caches "
        "and streaming heads are simulated: their outputs are real, their bytes are counted."
    )
    rows = table_rows(document)
    yield Table("", list(rows[0]), [list(row.values()) for row in rows], "peers")


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


NOTE = Panel("", draw_note, place=10)
