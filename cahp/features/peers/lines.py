"""The result of ``cahp peers`` as lines for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from cahp.features.peers.result import COLUMNS, PeersDocument, describe_gains, describe_winner, show, table_rows
from cahp.words import capital


def peers_lines(document: PeersDocument) -> Iterator[str]:
    """The finding first, then the table, then what could not be measured."""
    yield f"{document.model} on {document.data}: {capital(describe_winner(document))}."
    yield f"{describe_gains(document)}."
    yield (
        f"{len(document.seeds)} seed(s); the full model's cache takes {document.cache:,} bytes per token at 16 bits; "
        f"its second readings have {show(document.passages.value)} and {show(document.random.value)} nats."
    )
    rows = table_rows(document)
    if rows:
        rows = [{name: name for name in COLUMNS}, *rows]
    widths = {name: max((len(row[name]) for row in rows), default=0) for name in COLUMNS}
    for row in rows:
        yield "  " + "  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip()
    for reason in document.reasons.values():
        yield f"  left out: {reason}"
