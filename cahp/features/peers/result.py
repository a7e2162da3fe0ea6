"""The bundled result of ``cahp experiment peers``: a table at equal bytes and equal weights, and its sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from cahp import models
from cahp.files import plain_json
from cahp.models import Throughput
from cahp.tasks import WindowProtocol
from cahp.values import Estimate
from cahp.words import number, percent, rate, times

SCHEMA = "cahp.peers/1"
#: The context, in tokens, for which bytes are counted and speed is measured.
CONTEXT = 2048
#: What all are compared with.
REFERENCE = "groups"


@dataclass(frozen=True)
class PeerLabel:
    """A way to shrink the cache in words; of a ``simulated`` one only the outputs are real."""

    text: str
    simulated: bool = False


#: All by name, in the order of tables; merged heads were measured and are not offered.
LABELS: Mapping[str, PeerLabel] = {
    REFERENCE: PeerLabel("groups removed (obs-fisher), after refit"),
    "groups-quick": PeerLabel("groups removed (obs-fisher), after quick refit"),
    "layers-cosine": PeerLabel("attention layers dropped (cosine similarity), after quick refit"),
    "layers-fisher": PeerLabel("attention layers dropped (fisher-layers), after quick refit"),
    "merged": PeerLabel("key-value heads merged, after quick refit"),
    "streaming": PeerLabel("streaming heads (first 4 and latest 64 tokens)", simulated=True),
    "8-bit": PeerLabel("a cache in 8 bits", simulated=True),
    "4-bit": PeerLabel("a cache in 4 bits", simulated=True),
    "4-bit-groups": PeerLabel("a cache in 4 bits and groups removed, after refit", simulated=True),
}


@dataclass(frozen=True)
class PeerRow:
    """What a peer keeps and costs; means over seeds, documents and items, with 95 % intervals.

    ``bytes`` is the share of the cache per token that is left, ``kl`` the KL divergence per token, ``difference`` that
    minus the reference's at the nearest number of bytes (None: it is the reference), ``passages`` and ``random`` the
    losses of second readings. ``cut`` is the share that had to be saved at least.
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

    @property
    def label(self) -> str:
        """The peer in words."""
        return LABELS[self.peer].text

    @property
    def simulated(self) -> bool:
        """Whether only its outputs are real."""
        return LABELS[self.peer].simulated


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
        document: dict[str, Any] = {"schema": self.schema, **plain_json(asdict(self))}
        return document

    def at(self, peer: str) -> list[PeerRow]:
        """The rows of a peer, the lightest cut first."""
        return [row for row in self.rows if row.peer == peer]


def read_document(file: Path) -> PeersDocument:
    """Read a document of ``cahp experiment peers``."""
    return msgspec.json.decode(file.read_bytes(), type=PeersDocument)


def read_bundled(model: str) -> PeersDocument | None:
    """Read the bundled document of a built-in model, beside its comparison of methods; None if there is none."""
    file = models.assets() / "compare" / model / "peers.json"
    if model not in models.BUILTINS or not file.is_file():
        return None
    return read_document(file)


# In words --------------------------------------------------------------------------------------------------------


def describe_winner(document: PeersDocument) -> str:
    """Tell what is nearest to the full model at no more bytes than removed groups, at the least and largest cut."""
    reference = document.at(REFERENCE)
    if not reference:
        return f"nothing is compared, because --only leaves out {REFERENCE}"
    sentences: dict[str, None] = {}
    for row in (reference[0], reference[-1]):
        as_small = [other for other in document.rows if other.bytes <= row.bytes + 1e-6]
        best = min(as_small, key=lambda other: other.kl.value)
        words = f"{row.words} removed save {percent(1 - row.bytes, 0)} for {_nats(row.kl)}"
        if best is not row:
            label = best.label
            if best.simulated:
                label += " (simulated)"
            words = (
                f"{label} is nearest to the full model at as few bytes: it saves {percent(1 - best.bytes, 0)} of the "
                f"cache for a KL divergence of {_nats(best.kl)}, where {words}"
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
    return f"{words}; a rounded cache does not do that by itself"


def _nats(estimate: Estimate) -> str:
    words = f"{show(estimate.value)} nats"
    if estimate.ci95 is not None:
        words += f" [{', '.join(map(show, estimate.ci95))}]"
    return words


def show(value: float) -> str:
    """Format nats with two significant digits, and at most four digits after the point."""
    digits = 4
    if value >= 0.1:
        digits = 2
    elif value >= 0.01:
        digits = 3
    return number(value, digits)


#: The columns of the table, with what each shows of a row and of the document.
COLUMNS: Mapping[str, Callable[[PeersDocument, PeerRow], str]] = {
    "how the cache is made smaller": lambda _, row: row.label,
    "what is done": lambda _, row: row.words,
    "cache saved": lambda _, row: percent(1 - row.bytes),
    "weights saved": lambda document, row: percent(1 - row.weights / document.weights),
    "KL divergence, nats": lambda _, row: _cell(row.kl),
    "minus removed groups": lambda _, row: _cell(row.difference),
    "second reading of a passage, nats": lambda _, row: _cell(row.passages),
    "of random tokens, nats": lambda _, row: _cell(row.random),
    "tokens per second": lambda _, row: _speed(row),
}


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if estimate.ci95 is None:
        return show_signed(estimate.value)
    low, high = estimate.ci95
    return f"{show_signed(estimate.value)} [{show_signed(low)}, {show_signed(high)}]"


def show_signed(value: float) -> str:
    """Format nats as ``show`` does, with a minus where they are negative."""
    if value < 0:
        return f"−{show(-value)}"
    return show(value)


def _speed(row: PeerRow) -> str:
    if row.speed is None:
        if row.simulated:
            return "simulated"
        return "not timed"
    return f"{rate(row.speed.pruned)} ({times(1 / row.speed.ratio.value)})"


def table_rows(document: PeersDocument) -> list[dict[str, str]]:
    """The rows of the table as text, in the order of the peers."""
    return [{name: show_of(document, row) for name, show_of in COLUMNS.items()} for row in document.rows]
