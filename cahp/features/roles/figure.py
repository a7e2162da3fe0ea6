"""Figures of the roles of heads: what a mask keeps of each, and the losses as fewer heads are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cahp.features.roles.questions import Kept
from cahp.figures import palette
from cahp.figures.marks import LEGEND, draw, error_bars, points
from cahp.values.head_roles import NOUNS


def kept_figure(rows: Sequence[Kept], *, dark: bool) -> Any:
    """Draw the share of each role's heads that a mask keeps (dots), and that random masks keep (95 % lines)."""
    colours = palette.ink(dark=dark)
    names = [NOUNS[row.role] for row in rows]
    symbols = []
    for row in rows:
        symbol = "circle-open"
        if row.significant:
            symbol = "circle"
        symbols.append(symbol)
    expected = [f"random masks: {row.expected:.1f} of {row.count}, {row.range} (95 %)" for row in rows]
    shares = [100 * row.kept / row.count for row in rows]
    centre = [100 * row.expected / row.count for row in rows]
    ends = [(100 * row.low / row.count, 100 * row.high / row.count) for row in rows]
    random = points(
        centre,
        names,
        "line-ns",
        colours.text,
        outline=2,
        name="random masks (95 %)",
        hover=expected,
        error_x=error_bars(centre, ends, colours.text, thickness=2),
    )
    own = points(
        shares,
        names,
        symbols,
        colours.accent,
        outline=2,
        name="this mask (hollow: not significant)",
        hover=[str(row) for row in rows],
    )
    return draw(
        [random, own],
        x={"title": "kept heads of the role in %", "range": [-4, 104], "zeroline": False},
        y={"autorange": "reversed", "automargin": True},
        height=110 + 34 * len(rows),
        left=10,
        legend=LEGEND,
    )


def rises_figure(rises: Mapping[str, Mapping[int, float]], *, unit: str, dark: bool) -> Any:
    """Draw the rise of the losses on repeated random tokens and on text by the number of kept heads.

    ``unit`` is what is kept: heads, or groups of them.
    """
    colours = palette.ink(dark=dark)
    looks = {"copying": ("repeated random tokens", colours.accent, "solid"), "nll": ("text", colours.text, "dash")}
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": list(rises[name]),
            "y": list(rises[name].values()),
            "name": words,
            "line": {"color": colour, "dash": dash, "width": 2},
            "hovertemplate": f"%{{x}} {unit}s: %{{y:+.2f}} nats per token of {words}<extra></extra>",
        }
        for name, (words, colour, dash) in looks.items()
    ]
    return draw(traces, x=f"{unit}s kept", y="rise of the loss (nats per token)", height=330, left=60, legend=LEGEND)
