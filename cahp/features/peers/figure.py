"""The figure of the peers: KL divergence by what is saved."""

from __future__ import annotations

from typing import Any

from cahp.board import NEUTRAL
from cahp.features.peers.result import LABELS, REFERENCE, PeersDocument, show
from cahp.figures import draw, error_bars, ink, points
from cahp.words import percent

#: The symbol of each peer, by its place in the table; the reference has the accent.
_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "hexagram", "triangle-down", "hourglass")
#: Peers with a colour of their own by day and by night: those that are rounded.
_ROUNDED = ("#B84A00", "#F08A3C")
#: The lowest KL divergence that is drawn, in nats.
_LEAST = 1e-5


def peers_figure(document: PeersDocument, *, dark: bool) -> Any:
    """KL divergence of each peer, with its interval, by the share of the cache's bytes that it saves."""
    colours = ink(dark=dark)
    traces = []
    for symbol, (name, label) in zip(_SYMBOLS, LABELS.items(), strict=True):
        rows = document.at(name)
        if not rows:
            continue
        colour = NEUTRAL
        if name == REFERENCE:
            colour = colours.accent
        elif name.startswith(("4-bit", "8-bit")):
            colour = _ROUNDED[dark]
        values = [max(_LEAST, row.kl.value) for row in rows]
        ends = [[max(_LEAST, row.kl.low), max(_LEAST, row.kl.high)] for row in rows]
        hover = [f"{label.text}<br>{row.words}: {show(row.kl.value)} nats" for row in rows]
        traces.append(
            points(
                [100 * (1 - row.bytes) for row in rows],
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
        x={"title": "bytes of the cache saved, %", "zeroline": False},
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
