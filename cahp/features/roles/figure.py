"""Figures of heads: what a mask keeps of each role, losses by budget, the targets of a head, and mean patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.board import CLUSTER_COLOURS
from cahp.features.roles.section import Kept
from cahp.figures import LEGEND, clickable, draw, error_bars, head_name, heat_map, ink, points, shape, ticks
from cahp.values import Estimate, HeadMask
from cahp.values.head_roles import NOUNS, ROLES, HeadRoles
from cahp.words import capital


def kept_figure(rows: Sequence[Kept], *, dark: bool) -> Any:
    """Draw the share of each role's heads that a mask keeps (dots), and that random masks keep (95 % lines)."""
    colours = ink(dark=dark)
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
    colours = ink(dark=dark)
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


#: The targets of attention in words.
WORDS: Mapping[str, str] = {
    "first": "the first token",
    "separator": "separators",
    "itself": "the token itself",
    "before": "the token before",
    "after": "the token after",
    "punctuation": "punctuation",
    "other": "other words",
}

#: With more heads, thumbnails have half the resolution.
_MANY = 144


def shares_figure(shares: Mapping[str, Estimate], *, dark: bool) -> Any:
    """Draw the share of a head's attention on each kind of target, with intervals."""
    colours = ink(dark=dark)
    means = [100 * share.value for share in shares.values()]
    ends = [(100 * share.low, 100 * share.high) for share in shares.values()]
    bars = {
        "type": "bar",
        "x": means,
        "y": [WORDS[kind] for kind in shares],
        "orientation": "h",
        "marker": {"color": colours.accent},
        "error_x": error_bars(means, ends, colours.text),
        "hovertext": [f"{WORDS[kind]}<br>{share.text} ({share.span})" for kind, share in shares.items()],
        "hoverinfo": "text",
    }
    return draw(
        [bars],
        x={"title": "share of its attention (%)", "range": [0, 102], "zeroline": False},
        y={"autorange": "reversed", "automargin": True},
        height=330,
        left=10,
    )


def pattern_figure(pattern: NDArray[np.float32], *, dark: bool) -> Any:
    """Draw a head's mean attention pattern ``(B, B)`` over positions of a text."""
    along = (np.arange(len(pattern)) + 0.5) * 100 / len(pattern)
    scale = [(stop**2, colour) for stop, colour in ink(dark=dark).scale]
    hover = "from %{y:.0f} % of the text<br>to %{x:.0f} %"
    axis = {"range": [0, 100], "showgrid": False, "zeroline": False, "constrain": "domain"}
    return draw(
        [heat_map(pattern, scale, hover=hover, x=along, y=along, zmin=0)],
        x={**axis, "title": "position attended to (% of the text)"},
        y={**axis, "range": [100, 0], "title": "position that attends (%)", "scaleanchor": "x"},
        height=330,
    )


def glance_figure(pictures: NDArray[np.uint8], roles: HeadRoles, mask: HeadMask, *, selected: int, dark: bool) -> Any:
    """Draw the mean maps of all heads, ``pictures (N, B, B)`` of ``HeadMaps``, as thumbnails, layers by heads.

    Under each is its role. Kept heads have a frame, ``selected`` a thick one. Every point's
    ``customdata`` is the head's flat index.
    """
    colours = ink(dark=dark)
    layers, heads = mask.keep.shape
    size = pictures.shape[1]
    if len(pictures) > _MANY and size % 2 == 0:
        # They are smaller on screen; half the resolution is a quarter to send.
        size //= 2
        pictures = pictures.reshape(-1, size, 2, size, 2).mean(axis=(2, 4)).round().astype(np.uint8)
    # Room for a word under each, and between neighbours.
    wide = size + 3
    high = size + round(size * 0.36)
    font = 9
    if heads <= 12:
        high = size + round(size * 0.3)
        font = 10
    canvas = np.zeros((layers * high, heads * wide), dtype=np.uint8)
    # One byte for each cell, 0 for the ground.
    cells = np.maximum(pictures, 1)
    every = np.arange(layers * heads)
    rows, columns = np.divmod(every, heads)
    for head, row, column in zip(every, rows * high, columns * wide, strict=True):
        canvas[row : row + size, column : column + size] = cells[head]
    x = columns * wide + (size - 1) / 2
    y = rows * high + (size - 1) / 2
    scale = [(0, colours.ground), (1 / 255, colours.scale[0][1]), *colours.scale[1:]]
    short = {name: role.short for name, role in ROLES.items()}
    words = {
        "type": "scatter",
        "x": x,
        "y": y + size / 2 + (high - size) * 0.45,
        "mode": "text",
        "text": [short.get(name, "") for name in roles.names],
        "textfont": {"size": font, "color": colours.text},
        "hoverinfo": "skip",
    }
    hover = []
    for head, (kept, name) in enumerate(zip(mask.keep.ravel(), roles.names, strict=True)):
        state = "kept" if kept else "pruned"
        hover.append(f"<b>{head_name(head, heads, roles.unit)}</b><br>{state}<br>{NOUNS[name]}")
    # Invisible points make the thumbnails clickable.
    size_of_points = max(10.0, 560 / heads)
    clicks = points(x, y, "square", "rgba(0,0,0,0)", size=size_of_points, hover=hover, **clickable(every))
    frames = []
    framed = [(head, colours.text, 1.4) for head in mask.flat]
    for head, colour, width in [*framed, (selected, CLUSTER_COLOURS[1], 3.5)]:
        left = columns[head] * wide - 1
        above = rows[head] * high - 1
        frames.append(shape("rect", (left, left + size + 1), (above, above + size + 1), color=colour, width=width))
    return draw(
        [heat_map(canvas, scale, zmin=0, zmax=255), words, clicks],
        x=ticks(capital(roles.unit), x[:heads], (-2, heads * wide - 1), range(heads)),
        y=ticks("Layer (first on top)", y[::heads], (layers * high - 1, -2), range(layers)),
        height=round(layers * max(52, min(96, 1000 / heads)) + 70),
        left=44,
        top=6,
        bottom=44,
        shapes=frames,
    )
