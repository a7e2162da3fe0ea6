"""The heads of a model as a grid, layers by heads: the kept heads, or how often each is kept."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cahp.board.colourings import CLUSTER_COLOURS, HeadMarks, contrast
from cahp.figures.marks import TINT, bar_below, blend, box, draw, heat_map, ink, points, ticks
from cahp.values import Floats, HeadMask, Ints, JsonObject

#: Pixels: the width of a grid, its greatest height, and the least one that has room for a bar of colours.
_WIDTH = 500
_TALLEST = 620
_LOWEST = 330


def is_deep(layers: int, heads: int) -> bool:
    """Whether a grid of these lies on its side where room is short, as the board's does."""
    return layers > 2 * heads


def head_name(head: int, heads: int, unit: str) -> str:
    """Name a head, or another ``unit``, given its flat index and the number of heads per layer."""
    return f"layer {head // heads}, {unit} {head % heads}"


def places(layers: int, heads: int) -> dict[str, list[int]]:
    """Return the first columns of a table with one row per head: its layer, and its number there."""
    layer, head = np.indices((layers, heads)).reshape(2, -1).tolist()
    return {"layer": layer, "head": head}


def head_traces(
    mask: HeadMask,
    groups: HeadMarks,
    places: Floats | Ints,
    shape: str,
    sizes: Any,
    *,
    unit: str,
    dark: bool,
    names: Sequence[str],
    **look: Any,
) -> list[JsonObject]:
    """Return two traces of clickable points, of kept and of pruned heads, in the colours of their groups or a tint.

    ``places (N, 2)`` and ``sizes`` (of each head, or one) are those of all heads; ``names (N,)`` are written on them.
    A point is crossed where a larger group has the same hue. A head is a ``unit``. ``look`` is that of ``points``.
    """
    ground = ink(dark=dark).ground
    sizes = np.broadcast_to(sizes, mask.keep.size)
    # Plotly fades the points that were not clicked; here all stay as visible as before.
    visible = {"marker": {"opacity": 1}}
    look |= {"selected": visible, "unselected": visible}
    traces = []
    for state, kept in (("kept", True), ("pruned", False)):
        shown = np.flatnonzero(mask.keep.ravel() == kept)
        heads = shown.tolist()
        fills = [groups.colours[head] for head in heads]
        if not kept:
            fills = [blend(fill, ground, TINT) for fill in fills]
        hover = []
        for head in heads:
            words = f"<b>{head_name(head, mask.heads, unit)}</b><br>{state}<br>{groups.kind} {groups.names[head]}"
            hover.append(words)
        symbols = [f"{shape}-x" if crossed else shape for crossed in groups.striped[shown].tolist()]
        x, y = places[shown].T
        trace = points(x, y, symbols, fills, size=sizes[shown], hover=hover, name=state, customdata=shown, **look)
        if names:
            trace |= {
                "mode": "markers+text",
                "text": [names[head] for head in heads],
                "textfont": {"color": [contrast(fill) for fill in fills], **look["textfont"]},
            }
        traces.append(trace)
    return traces


def grid_figure(mask: HeadMask, marks: HeadMarks, *, dark: bool = False, unit: str = "head") -> Any:
    """Draw the layers and their heads: kept heads solid, pruned heads tinted, with colour and name of their group.

    The layers of a deep model lie from left to right. A square is a ``unit``. Every point's ``customdata`` is the
    head's flat index.
    """
    cell, layout = _lay_out(mask.layers, mask.heads, unit)
    rows = [*np.indices(mask.keep.shape).reshape(2, -1)]
    if not is_deep(mask.layers, mask.heads):
        rows.reverse()
    names = []
    if cell >= 17:
        # A cross would strike its letter out; the letter alone tells the family.
        marks = replace(marks, striped=np.zeros_like(marks.striped))
        names = marks.names
    places = np.stack(rows, axis=1)
    font = {"size": max(8, min(12, cell * 0.36))}
    traces = head_traces(mask, marks, places, "square", cell * 0.78, unit=unit, dark=dark, names=names, textfont=font)
    return draw(traces, **layout, top=6)


def _lay_out(layers: int, heads: int, unit: str) -> tuple[float, JsonObject]:
    """Return the pixels of a head in a grid, and its axes and height: the first row on top, square cells."""
    rows = (layers, "Layer (first on top)")
    columns = (heads, unit.capitalize())
    if is_deep(layers, heads):
        rows = (heads, unit.capitalize())
        columns = (layers, "Layer")
    cell = min(44.0, (_WIDTH - 70) / columns[0], (_TALLEST - 90) / rows[0])
    axes = []
    for count, title in (columns, rows):
        # Of many, every fourth has a number.
        step = 1 if count <= 16 else 4
        numbers = range(0, count, step)
        axes.append(ticks(title, numbers, (-0.6, count - 0.4), fixedrange=True, constrain="domain"))
    x, y = axes
    y |= {"range": [rows[0] - 0.4, -0.6], "scaleanchor": "x", "scaleratio": 1}
    return cell, {"x": x, "y": y, "height": round(cell * (rows[0] + 0.2)) + 66}


def cell_figure(
    values: Floats,
    *,
    framed: Iterable[tuple[int, int]],
    unit: str,
    dark: bool,
) -> Any:
    """Draw how often each head is kept, in per cent, ``values (L, H)``, some heads framed.

    A cell is a ``unit``. The layers of a deep model lie from left to right.
    """
    colours = ink(dark=dark)
    layers, heads = values.shape
    cell, layout = _lay_out(layers, heads, unit)
    corners = [*framed]
    if is_deep(layers, heads):
        places = f"layer %{{x}}, {unit} %{{y}}"
        values = np.transpose(values)
    else:
        places = f"layer %{{y}}, {unit} %{{x}}"
        corners = [(head, layer) for layer, head in framed]
    bar = bar_below("choices that keep it (%)")
    look: JsonObject = {"zmin": 0, "zmax": 100}
    if cell >= 20:
        look["texttemplate"] = "%{z:.0f}"
    cells = heat_map(
        values, colours.scale, hover=f"{places}<br>kept in %{{z:.0f}} % of the choices", gap=2, **bar, **look
    )
    # A chart that is moved on its page is drawn without any width at first, and square cells would stay as small.
    layout["y"].pop("scaleanchor")
    frames = []
    for x, y in corners:
        frames.append(box((x - 0.46, x + 0.46), (y - 0.46, y + 0.46), color=CLUSTER_COLOURS[1], width=2.5))
    # In a lower figure Plotly writes the title of the colours over their bar.
    layout["height"] = max(_LOWEST, layout["height"] + 76)
    return draw([cells], **layout, top=34, bottom=98, shapes=frames)
