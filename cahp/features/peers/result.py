"""The result of ``cahp peers``: a table at equal bytes and equal weights, its sentences, and its two files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp import models
from cahp.comparison.statistics import estimate_crossed
from cahp.features.peers.measuring import PeersMeasured, PeerValues
from cahp.features.peers.table import CONTEXT, PEERS, REFERENCE
from cahp.files import plain_json
from cahp.models.costs import Throughput
from cahp.run.bench import Bench
from cahp.tasks.window import WindowProtocol
from cahp.values import Estimate, HeadMask
from cahp.words import number, percent, rate, times

SCHEMA = "cahp.peers/1"


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
        return PEERS[self.peer].label

    @property
    def simulated(self) -> bool:
        """Whether only its outputs are real."""
        return PEERS[self.peer].simulated


@dataclass(frozen=True)
class PeersDocument:
    """The document of ``cahp peers --json``; ``cache`` are the bytes per token of the full model's cache at 16 bits.

    ``made`` has the machine, day and command of a bundled one.
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


def summarise(bench: Bench, measured: PeersMeasured) -> PeersDocument:
    """Estimate what was measured, over seeds and documents, which are crossed; differences are paired."""
    seeds = len(measured.seeds)
    table = {place: _stack(rows, seeds, "kl") for place, rows in measured.values.items()}
    left = {place: rows[0].bytes for place, rows in measured.values.items()}
    references = [place for place in table if place[0] == REFERENCE]
    rows: list[PeerRow] = []
    for place, values in measured.values.items():
        nearest = min(references, key=lambda other: abs(left[other] - left[place]), default=None)
        difference = None
        if nearest is not None and place[0] != REFERENCE:
            difference = estimate_crossed(table[place] - table[nearest], "nats", measured.sizes, signed=True)
        rows.append(
            PeerRow(
                *place,
                values[0].words,
                values[0].bytes,
                values[0].weights,
                # A peer that does not depend on calibration has no seeds to vary over.
                estimate_crossed(_stack(values, len(values), "kl"), "nats", measured.sizes),
                estimate_crossed(_stack(values, len(values), "passages"), "nats"),
                estimate_crossed(_stack(values, len(values), "random"), "nats"),
                difference,
                values[0].speed,
            )
        )
    full = HeadMask.full(bench.card.layers, bench.card.heads)
    return PeersDocument(
        bench.card.id,
        bench.card.identity,
        bench.card.unit,
        bench.dataset.id,
        bench.protocol,
        measured.seeds,
        bench.settings.tokens,
        CONTEXT,
        # Its numbers take 4 bytes.
        bench.card.count_cached_bytes(full, CONTEXT) // (2 * CONTEXT),
        measured.full.weights,
        estimate_crossed(measured.full.passages[None], "nats"),
        estimate_crossed(measured.full.random[None], "nats"),
        tuple(rows),
        measured.reasons,
        bench.notices,
    )


def _stack(rows: Sequence[PeerValues], seeds: int, of: str) -> NDArray[np.float64]:
    """Values ``(seeds, n)``; a peer that does not depend on calibration has the same for each seed."""
    table = np.array([getattr(row, of) for row in rows])
    return np.broadcast_to(table, (seeds, table.shape[1]))


def pack_arrays(measured: PeersMeasured) -> dict[str, NDArray[np.generic]]:
    """The values of each peer, cut and seed, by document and item, as arrays of one file."""
    arrays: dict[str, NDArray[np.generic]] = {"sizes": measured.sizes, "seeds": np.array(measured.seeds)}
    rows = {("full", 0.0): (measured.full,), **measured.values}
    for (name, cut), values in rows.items():
        for part in ("kl", "passages", "random"):
            arrays[f"{name}-{cut:.2f}-{part}"] = np.array([getattr(one, part) for one in values], dtype=np.float32)
    return arrays


# The bundled results ---------------------------------------------------------------------------------------------


def bundled_file(model: str) -> Path:
    """The file of the bundled result of a built-in model, beside its comparison of methods."""
    return models.assets() / "compare" / model / "peers.json"


def read_document(file: Path) -> PeersDocument:
    """Read a document of ``cahp peers``."""
    return msgspec.convert(json.loads(file.read_text(encoding="utf-8")), PeersDocument)


def read_bundled(model: str) -> PeersDocument | None:
    """Read the bundled document of a built-in model; None if there is none."""
    file = bundled_file(model)
    if model not in models.BUILTINS or not file.is_file():
        return None
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(file: Path, changed: int) -> PeersDocument:
    # ``changed`` is part of the cache key: a file that was replaced is read again.
    return read_document(file)


# In words --------------------------------------------------------------------------------------------------------


def find_winner(document: PeersDocument, most: float) -> PeerRow:
    """Find the row nearest to the full model of those that keep at most the share ``most`` of the cache."""
    return min((row for row in document.rows if row.bytes <= most + 1e-6), key=lambda row: row.kl.value)


def describe_winner(document: PeersDocument) -> str:
    """Tell what is nearest to the full model at no more bytes than removed groups, at the least and largest cut."""
    reference = document.at(REFERENCE)
    if not reference:
        return f"nothing is compared, because --only leaves out {REFERENCE}"
    sentences: dict[str, None] = {}
    for row in (reference[0], reference[-1]):
        best = find_winner(document, row.bytes)
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
