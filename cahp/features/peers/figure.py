"""The figure of the peers: KL divergence by what is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cahp.board import NEUTRAL
from cahp.features.peers.result import LABELS, REFERENCE, PeerRow, PeersDocument, show
from cahp.figures import draw, error_bars, ink, points
from cahp.words import percent

#: The symbol of each peer, by its place in the table; the reference has the accent.
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "hexagram", "triangle-down", "hourglass")
#: Peers with a colour of their own by day and by night: those that are rounded.
_ROUNDED = ("#B84A00", "#F08A3C")
#: The lowest KL divergence that is drawn, in nats.
_LEAST = 1e-5


@dataclass(frozen=True)
class PeerAxis:
    """What is saved, as an axis: its ``label``, and the value of a row (None: it has none)."""

    label: str
    value: Callable[[PeersDocument, PeerRow], float | None]


def _speed_up(_: PeersDocument, row: PeerRow) -> float | None:
    if row.speed is None:
        return None
    return 1 / row.speed.ratio.value


#: The axes by name.
AXES: Mapping[str, PeerAxis] = {
    "cache": PeerAxis("bytes of the cache saved, %", lambda _, row: 100 * (1 - row.bytes)),
    "weights": PeerAxis("weights saved, %", lambda document, row: 100 * (1 - row.weights / document.weights)),
    "speed": PeerAxis("times as fast (tokens per second)", _speed_up),
}


def has_axis(document: PeersDocument, axis: str) -> bool:
    """Whether some row has a value on the ``axis``; nothing has a speed where nothing was timed."""
    return any(AXES[axis].value(document, row) is not None for row in document.rows)


def peers_figure(document: PeersDocument, axis: str, *, dark: bool) -> Any:
    """KL divergence of each peer, with its interval, by what it saves on the ``axis``."""
    colours = ink(dark=dark)
    traces = []
    for symbol, (name, label) in zip(_SYMBOLS, LABELS.items(), strict=True):
        rows = [(AXES[axis].value(document, row), row) for row in document.at(name)]
        drawn = [(saved, row) for saved, row in rows if saved is not None]
        if not drawn:
            continue
        colour = NEUTRAL
        if name == REFERENCE:
            colour = colours.accent
        elif name.startswith(("4-bit", "8-bit")):
            colour = _ROUNDED[dark]
        values = [max(_LEAST, row.kl.value) for _, row in drawn]
        ends = [[max(_LEAST, row.kl.low), max(_LEAST, row.kl.high)] for _, row in drawn]
        hover = [f"{label.text}<br>{row.words}: {show(row.kl.value)} nats" for _, row in drawn]
        traces.append(
            points(
                [saved for saved, _ in drawn],
                values,
                symbol,
                colour,
                hover=hover,
                name=label.text,
                mode="lines+markers",
                line={"color": colour, "width": 1.2},
                error_y=error_bars(values, ends, colour, width=4),
            )
        )
    ticks = [10.0**power for power in range(-5, 2)]
    return draw(
        traces,
        x={"title": AXES[axis].label, "zeroline": False},
        y={
            "title": "KL divergence (nats, less is better)",
            "type": "log",
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        },
        height=460,
        left=70,
        bottom=150,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
    )


def describe_points(document: PeersDocument) -> str:
    """The figure in words, for a screen reader."""
    return " ".join(
        f"{row.label}, {row.words}: {percent(1 - row.bytes, 0)} saved, {show(row.kl.value)} nats."
        for row in document.rows
    )
