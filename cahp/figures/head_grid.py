"""The heads of a model as a grid, layers by heads: the kept heads, or a share of each head."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.board.colourings import CLUSTER_COLOURS, HeadMarks, contrast
from cahp.figures.marks import (
    LEGEND,
    Ink,
    bar_below,
    by_state,
    clickable,
    draw,
    heat_map,
    ink,
    legend,
    points,
    shape,
    symbols,
    ticks,
    written,
)
from cahp.values import Floats, HeadMask, Ints

#: Pixels: the default width of a grid, its greatest height, and the least one that has room for a bar of colours.
_WIDTH = 560
_TALLEST = 620
_LOWEST = 260
#: The same of a grid whose cells need not be squares.
_LOWEST_FREE = 330
#: The title of the layers in a grid that does not lie on its side.
_LAYERS = "Layer (first on top)"


def is_deep(layers: int, heads: int) -> bool:
    """Whether a grid of these lies on its side where room is short, as the board's does."""
    return layers > 2 * heads


def head_name(head: int, heads: int, unit: str = "head") -> str:
    """Name a head, or another ``unit``, given its flat index and the number of heads per layer."""
    return f"layer {head // heads}, {unit} {head % heads}"


def places(layers: int, heads: int) -> dict[str, list[int]]:
    """Return the first columns of a table with one row per head: its layer, and its number there."""
    every = range(layers * heads)
    return {"layer": [head // heads for head in every], "head": [head % heads for head in every]}


def grid_figure(
    mask: HeadMask,
    marks: HeadMarks | None = None,
    *,
    selected: int | None = None,
    dark: bool = False,
    width: int = _WIDTH,
    compact: bool = False,
    unit: str = "head",
) -> Any:
    """Draw the layers and their heads: kept heads solid, pruned heads tinted, with colour and name of their group.

    Without ``marks`` of the groups, all heads have the accent colour. The head ``selected`` gets a thick frame, and
    each head of its group a thin one. ``width`` is the available width in pixels. A ``compact`` grid has no legend, and
    the layers of a deep model lie from left to right. A square is a ``unit``. Every point's ``customdata`` is the
    head's flat index.
    """
    colours = ink(dark=dark)
    heads = mask.heads
    deep = compact and is_deep(mask.layers, heads)
    rows = mask.layers
    columns = heads
    if deep:
        rows, columns = columns, rows
    cell = _cell_size(rows, columns, width)

    def place(shown: Ints) -> tuple[Ints, Ints]:
        layer, head = np.divmod(shown, heads)
        return (layer, head) if deep else (head, layer)

    all_fills = [colours.accent] * mask.keep.size
    if marks is not None:
        all_fills = marks.colours
    traces = []
    for shown, fills, state in by_state(mask, all_fills, colours):
        symbol: str | list[str] = "square"
        lettered: dict[str, Any] = {}
        hover = [f"<b>{head_name(head, heads, unit)}</b><br>{state}" for head in shown.tolist()]
        if marks is not None:
            names = [marks.names[head] for head in shown]
            hover = [f"{text}<br>{marks.kind} {name}" for text, name in zip(hover, names, strict=True)]
            if cell >= 17:
                # A cross would strike its letter out; the letter alone tells the family.
                font = {"size": max(8, min(12, cell * 0.36)), "color": [contrast(fill) for fill in fills]}
                lettered = {"mode": "markers+text", "text": names, "textfont": font}
            else:
                symbol = symbols("square", marks, shown)
        x, y = place(shown)
        traces.append(
            points(
                x,
                y,
                symbol,
                fills,
                size=cell * 0.78,
                hover=hover,
                name=state,
                showlegend=False,
                **clickable(shown),
                **lettered,
            )
        )
    if selected is not None:
        alike = []
        if marks is not None:
            alike = [head for head, name in enumerate(marks.names) if name == marks.names[selected]]
        for group, size, outline in ((alike, 0.94, 1.2), ([selected], 1.0, 2.5)):
            framed = np.array(group, np.int64)
            frame = points(*place(framed), "square-open", colours.text, size=cell * size, outline=outline)
            traces.append({**frame, **clickable(framed), "showlegend": False})
    if not compact:
        titles = (unit.capitalize(), _LAYERS)
        return draw([*traces, *legend("square", colours)], **_layout(rows, columns, width, titles), legend=LEGEND)
    titles = (unit.capitalize(), "Layer")
    if deep:
        titles = ("Layer", unit.capitalize())
    layout = _layout(rows, columns, width, titles)
    return draw(traces, **{**layout, "height": layout["height"] - 24}, top=6)


def _cell_size(rows: int, columns: int, width: int) -> float:
    """Return the pixels of one head in a grid."""
    return min(44.0, (width - 70) / columns, (_TALLEST - 90) / rows)


def _layout(rows: int, columns: int, width: int, titles: tuple[str, str]) -> dict[str, Any]:
    """Return axes, with the ``titles`` of x and y, and height of a grid: the first row on top, square cells."""
    fixed: dict[str, Any] = {"fixedrange": True, "constrain": "domain"}
    return {
        "x": ticks(titles[0], _numbered(columns), (-0.6, columns - 0.4), **fixed),
        "y": ticks(titles[1], _numbered(rows), (rows - 0.4, -0.6), **fixed, scaleanchor="x", scaleratio=1),
        "height": round(_cell_size(rows, columns, width) * (rows + 0.2)) + 90,
    }


def _numbered(count: int) -> range:
    """Return the rows or columns of a grid that have a number: all, or every fourth."""
    step = 1 if count <= 16 else 4
    return range(0, count, step)


@dataclass(frozen=True)
class CellWords:
    """The words of a figure of shares.

    ``scale`` is the title of the colours, and ``hover`` the tooltip of a cell, a ``unit``: ``%{z}`` is its share in per
    cent, ``%{customdata}`` its entry in ``notes``, by layer and head.
    """

    scale: str
    hover: str
    unit: str = "head"
    notes: Sequence[Sequence[str]] | None = None


def _draw_cells(
    values: Floats,
    scale: Sequence[Sequence[Any]],
    ends: tuple[float, float],
    *,
    framed: Iterable[tuple[int, int]],
    words: CellWords,
    width: int,
    texts: NDArray[Any] | None = None,
    colours: Ink,
) -> Any:
    """Draw ``values (L, H)`` in the colours of a ``scale`` between two values, some framed, with a bar below.

    The layers of a deep model lie from left to right. ``texts (L, H)`` are written on cells that have room.
    """
    unit = words.unit
    titles = (unit.capitalize(), _LAYERS)
    places = f"layer %{{y}}, {unit} %{{x}}"
    notes = words.notes
    framed = [(head, layer) for layer, head in framed]
    if is_deep(*values.shape):
        titles = ("Layer", unit.capitalize())
        places = f"layer %{{x}}, {unit} %{{y}}"
        framed = [(layer, head) for head, layer in framed]
        values = np.transpose(values)
        if texts is not None:
            texts = texts.T
        if notes is not None:
            notes = list(zip(*notes, strict=True))
    cells = heat_map(values, scale, hover=f"{places}<br>{words.hover}", gap=2, zmin=ends[0], zmax=ends[1])
    traces = [{**cells, "customdata": notes, **bar_below(words.scale)}]
    rows, columns = values.shape
    if texts is not None and _cell_size(rows, columns, width) >= 20:
        traces.append(written(texts.tolist(), (values / ends[1]).tolist(), colours, size=10))
    layout = _layout(rows, columns, width, titles)
    return draw(
        traces,
        **{**layout, "height": max(_LOWEST, layout["height"] + 52)},
        top=34,
        bottom=98,
        shapes=[
            shape("rect", (x - 0.46, x + 0.46), (y - 0.46, y + 0.46), color=CLUSTER_COLOURS[1], width=2.5)
            for x, y in framed
        ],
    )


def share_figure(
    shares: Floats,
    *,
    framed: Iterable[tuple[int, int]],
    crossed: Collection[tuple[int, int]] = (),
    words: CellWords,
    width: int,
    dark: bool,
) -> Any:
    """Draw a share of each head, ``shares (L, H)`` in 0..1: layers by heads, some framed and some crossed out."""
    colours = ink(dark=dark)
    texts = np.char.mod("%.0f", 100 * shares).astype(object)
    for layer, head in crossed:
        texts[layer, head] = "×"
    return _draw_cells(
        100 * shares,
        colours.scale,
        (0, 100),
        framed=framed,
        words=words,
        width=width,
        texts=texts,
        colours=colours,
    )


def signed_figure(
    values: Floats, *, framed: Iterable[tuple[int, int]], words: CellWords, width: int, dark: bool
) -> Any:
    """Draw a signed value of each head, ``values (L, H)``: blue below zero, orange above, some heads framed.

    In ``words``, ``%{z}`` is the value.
    """
    most = float(np.abs(values).max()) or 1.0
    colours = ink(dark=dark)
    scale = ((0, CLUSTER_COLOURS[0]), (0.5, colours.scale[0][1]), (1, CLUSTER_COLOURS[5]))
    figure = _draw_cells(values, scale, (-most, most), framed=framed, words=words, width=width, colours=colours)
    # A chart that is moved on its page is drawn without any width at first, and square cells would stay as small.
    figure.update_yaxes(scaleanchor=None)
    # In a lower figure Plotly writes the title of the colours over their bar.
    return figure.update_layout(height=max(_LOWEST_FREE, figure.layout.height))
