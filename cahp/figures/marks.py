"""The parts of figures: colours, layout, points, error bars, shapes, a legend, and numbers in cells."""

import html
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cahp.board.colourings import NEUTRAL, STRIPED, HeadMarks, tints
from cahp.values import Fields, Ints, JsonObject

#: As far from each other as possible for every common kind of colour blindness, with a contrast of 3 to both grounds.
COMMUNITY_COLOURS = ("#695AE1", "#879669", "#B41E96", "#875A69", "#4B96E1", "#C38700", "#870FFF", "#C31E2D")


def community_name(group: int) -> str:
    """Return the name of a community, given its index: a number from 1."""
    return str(group + 1)


def mark_communities(labels: Ints) -> HeadMarks:
    """Return the marks of the communities of ``labels (N,)``: heads that attend alike on one text.

    Numbers and other hues tell them from clusters; a single head has no colour of its own.
    """
    tinted = tints(labels, smallest=2)
    eight = COMMUNITY_COLOURS
    colours = [(*eight, NEUTRAL, *eight)[tint] for tint in tinted]
    return HeadMarks(colours, [community_name(group) for group in labels], tinted >= STRIPED, "community")


@dataclass(frozen=True)
class Ink:
    """Colours that follow the theme: text and outlines, faint lines, the ground, the accent, a scale of amounts."""

    text: str
    faint: str
    ground: str
    accent: str
    scale: tuple[tuple[float, str], ...]


# Nothing is as light as the ground, much is as dark as ink: by lightness alone the order of amounts stays readable.
_LIGHT = Ink(
    "#1c2327", "#d5dade", "#ffffff", "#0f6e84", ((0, "#f4f6f7"), (0.35, "#8ec3cf"), (0.7, "#2b7f95"), (1, "#0b3a47"))
)
_DARK = Ink(
    "#e6eaec", "#343c40", "#101416", "#56b6cc", ((0, "#1a2023"), (0.35, "#14596b"), (0.7, "#3aa3bd"), (1, "#d8f4fa"))
)


def ink(*, dark: bool) -> Ink:
    """The colours of a theme."""
    return _DARK if dark else _LIGHT


def blend(colour: str, ground: str, share: float) -> str:
    """Mix a ``share`` of a colour with a ground, both ``#rrggbb``."""
    channels = zip(bytes.fromhex(colour[1:]), bytes.fromhex(ground[1:]), strict=True)
    return f"#{bytes([round(share * over + (1 - share) * under) for over, under in channels]).hex()}"


#: A legend in a row above the figure, with symbols of one size.
LEGEND: Fields = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"}


#: The share of its colour in the tint of a pruned head.
TINT = 0.2


def draw(
    traces: Sequence[Any],
    *,
    x: Fields,
    y: Fields,
    height: float,
    left: int = 50,
    top: int | None = None,
    bottom: int = 46,
    legend: Fields | None = None,
    **layout: Any,
) -> Any:
    """Return a Plotly figure of ``traces``, dictionaries that Plotly checks together, which is faster than one by one.

    ``x`` and ``y`` are the properties of the axes. Sizes are in pixels.
    """
    import plotly.graph_objects as go

    if top is None:
        top = 10 if legend is None else 34
    return go.Figure(
        list(traces),
        {
            "xaxis": x,
            "yaxis": y,
            "height": height,
            "margin": {"l": left, "r": 10, "t": top, "b": bottom},
            "showlegend": legend is not None,
            "legend": legend,
            **layout,
        },
    )


def points(
    x: Any,
    y: Any,
    symbol: str | Sequence[str],
    colour: str | Sequence[str],
    *,
    size: Any = 11,
    outline: float = 0,
    opacity: float | Sequence[float] = 1,
    hover: Sequence[str] | None = None,
    **trace: Any,
) -> JsonObject:
    """Return a trace of points; ``hover`` are their tooltips."""
    width: float | list[float] = outline
    if not isinstance(symbol, str):
        # A cross is as wide as the outline.
        width = [1 if name.endswith("-x") else outline for name in symbol]
    marker = {"symbol": symbol, "size": size, "color": colour, "line": {"width": width}, "opacity": opacity}
    tooltips: JsonObject = {"hoverinfo": "skip"}
    if hover is not None:
        tooltips = {"hovertext": hover, "hoverinfo": "text"}
    return {"type": "scatter", "x": x, "y": y, "mode": "markers", "marker": marker, **tooltips, **trace}


def heat_map(z: Any, scale: Sequence[Sequence[Any]], *, hover: str = "", gap: int = 0, **trace: Any) -> JsonObject:
    """Return a heat map in the colours of ``scale``, without a bar of colours unless ``trace`` has one."""
    tooltip = {"hoverinfo": "skip"}
    if hover:
        tooltip = {"hovertemplate": f"{hover}<extra></extra>"}
    return {
        "type": "heatmap",
        "z": z,
        "colorscale": scale,
        "xgap": gap,
        "ygap": gap,
        "showscale": False,
        **tooltip,
        **trace,
    }


def bar_below(title: str) -> JsonObject:
    """Return the bar of colours of a heat map below it: beside it, a bar would take the width of a phone."""
    bar = {
        "title": {"text": title, "side": "bottom"},
        "orientation": "h",
        "thickness": 10,
        "exponentformat": "none",
        "yref": "container",
        "y": 0,
        "yanchor": "bottom",
    }
    return {"showscale": True, "colorbar": bar}


def error_bars(values: Any, ends: Any, colour: str, **style: Any) -> JsonObject:
    """Return error bars from ``values (n,)`` to the ``ends (n, 2)`` of their intervals."""
    values = np.asarray(values)
    ends = np.reshape(ends, (-1, 2))
    return {
        "type": "data",
        "symmetric": False,
        "array": ends[:, 1] - values,
        "arrayminus": values - ends[:, 0],
        "color": colour,
        "thickness": 1.5,
        **style,
    }


def box(x: tuple[Any, Any], y: tuple[Any, Any], **style: Any) -> JsonObject:
    """Return a frame between two corners, in axis units."""
    return {"type": "rect", "x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "line": style}


def ticks(
    title: str, places: Sequence[Any], ends: tuple[float, float], names: Sequence[Any] = (), **axis: Any
) -> JsonObject:
    """Return an axis between two ``ends`` with ticks at ``places``, labelled with ``names`` or else numbers."""
    described = {"title": title, "tickvals": list(places), "range": list(ends), "showgrid": False, "zeroline": False}
    if len(names):
        described["ticktext"] = list(names)
    return {**described, **axis}


def named_rows(names: Sequence[str]) -> JsonObject:
    """Return a vertical axis with a name for each row, the first on top."""
    return ticks("", range(len(names)), (len(names) - 0.5, -0.5), names, automargin=True)


def legend(colours: Ink) -> list[JsonObject]:
    """Return traces that explain solid and light points, in a colour that belongs to no group."""
    fills = {"kept": colours.text, "pruned": blend(colours.text, colours.ground, TINT)}
    return [points([None], [None], "circle", fill, name=state) for state, fill in fills.items()]


def label(text: str, *, limit: int = 24) -> str:
    """Return a person's text as a Plotly label without markup, of at most ``limit`` characters."""
    # Control, format (direction marks among them), surrogate, private and unassigned characters.
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn"}
    visible = "".join("·" if unicodedata.category(char) in hidden else char for char in text)
    if len(visible) > limit:
        visible = visible[: limit - 1] + "…"
    # Plotly reads <b>, <a href> and entities in labels, and TeX between dollar signs.
    return html.escape(visible, quote=False).replace("$", "＄")
