"""The result of ``cahp experiment peers``: a table at equal bytes and equal weights, and its sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from cahp.files import plain_json
from cahp.models.cards import Throughput
from cahp.tasks import WindowProtocol
from cahp.values import Estimate
from cahp.words import number, percent, rate, times

SCHEMA = "cahp.peers/1"
#: The context, in tokens, for which bytes are counted and speed is measured.
CONTEXT = 2048
#: What all are compared with.
REFERENCE = "groups"


#: All by name, in the order of tables; merged heads were measured and are not offered.
LABELS: Mapping[str, str] = {
    REFERENCE: "groups removed (obs-fisher), after refit",
    "groups-bypass": "groups removed (obs-fisher), after bypass",
    "groups-quick": "groups removed (obs-fisher), after quick refit",
    "layers-cosine": "attention layers dropped (cosine similarity), after quick refit",
    "layers-fisher": "attention layers dropped (fisher-layers), after quick refit",
    "merged": "key-value heads merged, after quick refit",
    "streaming": "streaming heads (first 4 and latest 64 tokens)",
    "8-bit": "a cache in 8 bits",
    "4-bit": "a cache in 4 bits",
    "3-bit": "a cache in 3 bits",
    "2-bit": "a cache in 2 bits",
    "4-bit-groups": "a cache in 4 bits and groups removed, after refit",
    "4-bit-streaming": "a cache in 4 bits and streaming heads",
}
#: Those of which only the outputs are real.
SIMULATED = ("streaming", "8-bit", "4-bit", "3-bit", "2-bit", "4-bit-groups", "4-bit-streaming")


@dataclass(frozen=True)
class PeerRow:
    """What a peer keeps and costs; means over seeds, documents and items, with 95 % intervals.

    ``bytes`` is the share of the cache per token that is left, ``kl`` the KL divergence per token, ``difference`` that
    minus the reference's at the nearest number of bytes (None: it is the reference), ``passages`` and ``random`` the
    losses of second readings. ``cut`` is the share that had to be saved at least, and ``articles`` the KL divergence on
    long articles (None: not measured).
    """

    peer: str
    cut: float
    words: str
    bytes: float
    weights: int
    kl: Estimate
    passages: Estimate
    random: Estimate
    difference: Estimate | None = None
    speed: Throughput | None = None
    articles: Estimate | None = None

    @property
    def label(self) -> str:
        """The peer in words."""
        return LABELS[self.peer]

    @property
    def simulated(self) -> bool:
        """Whether only its outputs are real."""
        return self.peer in SIMULATED


@dataclass(frozen=True)
class PeersDocument:
    """The document of ``cahp experiment peers``.

    ``cache`` are the bytes per token of the full model's cache at 16 bits, and ``made`` has the machine, day and
    command of a bundled one.
    """

    model: str
    sha256: str
    unit: str
    data: str
    protocol: WindowProtocol | None
    seeds: tuple[int, ...]
    calibration: int
    context: int
    cache: int
    weights: int
    passages: Estimate
    random: Estimate
    rows: tuple[PeerRow, ...]
    reasons: Mapping[str, str]
    notices: tuple[str, ...] = ()
    made: Mapping[str, str] | None = None
    schema: str = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON."""
        # The schema first, by which a file is known as ours.
        return {"schema": self.schema, **plain_json(asdict(self)), "shown": show_peers(self)}

    def at(self, peer: str) -> list[PeerRow]:
        """The rows of a peer, the lightest cut first."""
        return [row for row in self.rows if row.peer == peer]


def read_document(file: Path) -> PeersDocument:
    """Read a document of ``cahp experiment peers``."""
    return msgspec.json.decode(file.read_bytes(), type=PeersDocument)


# In words --------------------------------------------------------------------------------------------------------


def describe_winner(document: PeersDocument) -> str:
    """Tell what is nearest to the full model at no more bytes than removed groups, at the least and largest cut.

    Long articles decide, where they were read.
    """
    reference = document.at(REFERENCE)
    if not reference:
        return f"nothing is compared, because --only leaves out {REFERENCE}"
    sentences: dict[str, None] = {}
    for row in (reference[0], reference[-1]):
        as_small = [other for other in document.rows if other.bytes <= row.bytes + 1e-6]
        if row.articles is None:
            as_small = [other for other in as_small if not is_too_short(document, other)]
        best = min(as_small, key=lambda other: (other.articles or other.kl).value)
        words = f"{row.words} removed save {percent(1 - row.bytes, 0)} for {_write_both(document, row)}"
        if best is not row:
            label = best.label
            if best.simulated:
                label += " (simulated)"
            words = (
                f"{label} is nearest to the full model at as few bytes: it saves {percent(1 - best.bytes, 0)} of the "
                f"cache for a KL divergence of {_write_both(document, best)}, where {words}"
            )
        else:
            words += ", and nothing else is nearer to the full model at as few bytes"
        sentences[words] = None
    return "; ".join(sentences)


def describe_gains(document: PeersDocument) -> str:
    """Tell what removing groups saves beside the cache: weights and time, at the largest cut."""
    removed = document.at(REFERENCE)
    if not removed:
        return "What removing groups saves besides is not measured"
    row = removed[-1]
    words = f"Removing {row.words} also saves {percent(1 - row.weights / document.weights)} of the weights"
    if row.speed is not None:
        faster = 1 / row.speed.ratio.value
        words += f" and writes {times(faster)} as fast at {row.speed.context:,} tokens of context"
    return f"{words}; whether a rounded cache is faster was not measured"


def show_peers(document: PeersDocument) -> dict[str, Any]:
    """Return what Compare shows of a document: a status, and blocks."""
    rows = table_rows(document)
    winner = describe_winner(document)
    gains = describe_gains(document)
    table = {"title": "", "columns": list(rows[0]), "rows": [list(row.values()) for row in rows], "name": "peers"}
    about = (
        f"95 % intervals over {len(document.seeds)} seeds and documents. Rounded caches and streaming heads are "
        "simulated: their outputs are real, their bytes are counted."
    )
    return {
        "status": "measured",
        "lines": winner.split("; "),
        "texts": [f"{gains}. {about}"],
        "tables": [table],
    }


def show(value: float) -> str:
    """Format nats with two significant digits, and at most four digits after the point."""
    digits = 4
    if abs(value) >= 0.1:
        digits = 2
    elif abs(value) >= 0.01:
        digits = 3
    return number(value, digits)


def is_too_short(document: PeersDocument, row: PeerRow) -> bool:
    """Whether the windows of the texts are too short to tell what a peer that forgets tokens costs."""
    return (
        row.peer in ("streaming", "4-bit-streaming")
        and document.protocol is not None
        and document.protocol.window < document.context
    )


def table_rows(document: PeersDocument) -> list[dict[str, str]]:
    """The rows of the table as text by column, in the order of the peers."""
    rows = []
    for row in document.rows:
        speed = "simulated" if row.simulated else "not timed"
        if row.speed is not None:
            speed = f"{rate(row.speed.pruned)} ({times(1 / row.speed.ratio.value)})"
        kl = _write(row.kl)
        difference = _write(row.difference)
        if is_too_short(document, row):
            kl = "texts too short"
            difference = ""
        rows.append(
            {
                "how the cache is made smaller": row.label,
                "what is done": row.words,
                "cache saved": percent(1 - row.bytes),
                "weights saved": percent(1 - row.weights / document.weights),
                "KL divergence, nats": kl,
                "on long articles, nats": _write(row.articles),
                "minus removed groups, as far as measured": difference,
                "second reading of a passage, nats": _write(row.passages),
                "of random tokens, nats": _write(row.random),
                "tokens per second": speed,
            }
        )
    return rows


def _write_both(document: PeersDocument, row: PeerRow) -> str:
    """Write the KL divergence of a row on short texts and on long articles, as far as they were read."""
    if row.articles is None:
        return _write(row.kl, " nats")
    long = f"{_write(row.articles, ' nats')} on long articles"
    if is_too_short(document, row):
        return long
    return f"{long} and {_write(row.kl, ' nats')} on short texts"


def _write(estimate: Estimate | None, unit: str = "") -> str:
    if estimate is None:
        return ""
    words = f"{show(estimate.value)}{unit}"
    if estimate.ci95 is not None:
        words += f" [{', '.join(map(show, estimate.ci95))}]"
    return words
