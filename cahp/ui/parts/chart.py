"""Charts as every page shows them, and the figures that several pages share.

A title says what the chart found, a paragraph explains how to read it, an alternative text tells it to a screen
reader, and the numbers can be taken home. Whatever a person typed is made harmless by ``label`` before it meets
Plotly, which reads tags in labels.
"""

from __future__ import annotations

import csv
import html
import io
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from cahp.values import Floats, HeadMask, Ints

#: Hues that stay apart for every common kind of colour blindness (Okabe and Ito 2008, and two more).
CLUSTER_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#925BE5", "#8C5A2B")
#: Everything beyond eight hues: told apart by its letter.
NEUTRAL = "#8A939B"

#: A table to download: columns by name, all of one length; or what makes it when it is asked for.
Table = Mapping[str, Sequence[Any]] | Callable[[], Mapping[str, Sequence[Any]]]

#: For traces that can be clicked. Plotly fades what was not clicked; here a click asks a question and leaves the rest
#: as visible as it was.
UNDIMMED: Mapping[str, Any] = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 1}}}

_WIDTH = 560
_TALLEST = 620


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


def dark() -> bool:
    """Whether this browser shows the dark theme."""
    return bool(st.context.theme.type == "dark")


def ink(*, dark: bool) -> Ink:
    """The colours of a theme."""
    return _DARK if dark else _LIGHT


def label(text: str, *, limit: int = 24) -> str:
    """A person's text as a Plotly label: no tag, no control or direction character, at most ``limit`` characters."""
    visible = "".join(_visible(char) for char in text)
    if len(visible) > limit:
        visible = visible[: limit - 1] + "…"
    # Plotly reads <b>, <a href> and entities in labels, and TeX between dollar signs.
    return html.escape(visible, quote=False).replace("$", "＄")


def _visible(char: str) -> str:
    # Control, format (direction marks among them), surrogate and unassigned characters.
    return "·" if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn"} else char


def head_name(head: int, heads: int) -> str:
    """A head's flat index in words."""
    return f"layer {head // heads}, head {head % heads}"


def letters(index: int) -> str:
    """A cluster's name: A .. Z, AA, AB, ... ; letters, because heads and layers are numbers."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        name = chr(65 + letter) + name
    return name


def hues(labels: Ints) -> list[str]:
    """A colour for every cluster of ``labels (N,)``: the eight largest get hues, the rest and loners are neutral."""
    sizes = np.bincount(labels)
    colours = [NEUTRAL] * len(sizes)
    largest = np.argsort(-sizes, kind="stable")[: len(CLUSTER_COLOURS)]
    for colour, cluster in zip(CLUSTER_COLOURS, largest, strict=False):
        if sizes[cluster] > 1:
            colours[cluster] = colour
    return colours


def show(
    figure: Any,
    *,
    title: str,
    help: str,
    name: str,
    data: Table,
    alt: str | None = None,
    formula: str | None = None,
    on_pick: Callable[[int], None] | None = None,
) -> None:
    """Draw a Plotly figure as charts look here.

    Args:
        figure: A ``plotly.graph_objects.Figure``, without a title of its own.
        title: The finding, in words.
        help: One paragraph on how to read it (Markdown); never a person's text.
        name: Names the downloads and, as ``st-key-chart-NAME``, the chart in the page; unique on a page.
        data: The numbers, as a CSV file would hold them.
        alt: What a screen reader says after the title; by default the help.
        formula: TeX, shown under the help.
        on_pick: Called with the ``customdata`` of a point that was clicked, before the page runs again.
    """
    key = f"chart-{name}"
    with st.container(key=f"figure-{name}"):
        heading(title, help=help, name=name, data=data, formula=formula, pictures=True)
        options: dict[str, Any] = {}
        if on_pick is not None:

            def picked() -> None:
                points = st.session_state[key].selection.points
                if points:
                    where = points[0]["customdata"]
                    on_pick(int(where if isinstance(where, (int, float)) else where[0]))

            options = {"on_select": picked, "selection_mode": "points"}
        st.plotly_chart(
            figure,
            key=key,
            alt=f"{title}. {alt or _unmarked(help)}",
            config={"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": name}},
            **options,
        )


# A long finding breaks inside its own box; the button stays beside it.
_ONE_LINE = """<style>
[class*="st-key-heading-"] { flex-wrap: nowrap !important; }
[class*="st-key-heading-"] > :first-child { flex: 1 1 0 !important; min-width: 0 !important; }
[class*="st-key-heading-"] > :last-child { flex: 0 0 auto !important; width: auto !important; }
</style>"""


def heading(
    title: str, *, help: str, name: str, data: Table, formula: str | None = None, pictures: bool = False
) -> None:
    """A chart's finding, its explanation and its downloads; see ``show``."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"heading-{name}"):
        st.html(f'<h3 class="cahp-finding">{html.escape(title)}</h3>{_ONE_LINE}')
        with st.popover(
            "", icon=":material/info:", type="tertiary", key=f"about-{name}", help="How to read this, and downloads"
        ):
            st.markdown(help)
            if formula is not None:
                st.latex(formula)
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                if pictures:
                    _pictures(name)
                st.download_button(
                    "CSV",
                    lambda: as_csv(data),
                    f"{name}.csv",
                    "text/csv",
                    key=f"csv-{name}",
                    on_click="ignore",
                    type="tertiary",
                )


def _unmarked(markdown: str) -> str:
    return re.sub(r"[*_`#]|\$[^$]*\$", "", markdown)


# Plotly's own exporter, found through the camera of the chart's tool bar, draws the picture in the browser.
_PICTURES = """
export default function ({ data, parentElement }) {
  const save = (format) => {
    const plot = document.querySelector(`.st-key-chart-${CSS.escape(data.name)} .js-plotly-plot`);
    const camera = plot?.querySelector('.modebar-btn[data-attr="toImage"], .modebar-btn[data-title^="Download plot"]');
    if (!camera) return;
    plot._context.toImageButtonOptions = { format, filename: data.name, scale: format === "png" ? 2 : 1 };
    // The page must not see these clicks of ours: it would take them for clicks beside the open panel, and close that.
    const hide = (event) => {
      if (!event.target.download) return;
      event.stopPropagation();
      window.removeEventListener("click", hide, true);
    };
    window.addEventListener("click", hide, true);
    camera.dispatchEvent(new MouseEvent("click", { bubbles: false }));
  };
  for (const button of parentElement.querySelectorAll("button")) {
    button.onclick = () => save(button.dataset.format);
  }
}
"""
_PICTURES_HTML = """
<div><button type="button" data-format="svg">SVG</button><button type="button" data-format="png">PNG</button></div>
"""
_PICTURES_CSS = """
div { display: flex; gap: 0.75rem; }
button { font: inherit; color: var(--st-primary-color); background: none; border: 0; padding: 0; cursor: pointer; }
button:hover, button:focus-visible { text-decoration: underline; }
"""


def _pictures(name: str) -> None:
    draw = st.components.v2.component("cahp_pictures", html=_PICTURES_HTML, css=_PICTURES_CSS, js=_PICTURES)
    draw(key=f"pictures-{name}", data={"name": name}, width="content", height="content")


def as_csv(data: Table) -> bytes:
    """A table as a CSV file in UTF-8 that spreadsheets open; no cell is taken for a formula."""
    columns = data() if callable(data) else data
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(tuple(map(_cell, row)) for row in zip(*columns.values(), strict=True))
    # The mark tells spreadsheets that this is UTF-8.
    return ("\ufeff" + out.getvalue()).encode()


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    # A word of a person's text must not run in somebody's spreadsheet.
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


# Figures that several pages share ---------------------------------------------------------------------------


def grid_figure(
    mask: HeadMask,
    labels: Ints | None = None,
    *,
    group: str = "cluster",
    representatives: Collection[int] = (),
    selected: int | None = None,
    dark: bool = False,
    width: int = _WIDTH,
) -> Any:
    """The layers and their heads: survivors solid, pruned heads hollow, coloured and lettered by cluster.

    ``labels (N,)`` clusters of the heads (None: no colours); ``group`` is what a cluster is called in the hover
    text; ``representatives`` get a ring, ``selected`` a frame. Every point's ``customdata`` is the head's flat index.
    ``width`` is the room in pixels.
    """
    import plotly.graph_objects as go

    colours = ink(dark=dark)
    layers, heads = mask.layers, mask.heads
    every = np.arange(layers * heads)
    kept = mask.keep.ravel()
    cell = cell_size(layers, heads, width)
    fill = [colours.accent] * len(every) if labels is None else [hues(labels)[label] for label in labels]
    figure = go.Figure()
    words = [
        f"<b>{head_name(head, heads)}</b><br>{'kept' if kept[head] else 'pruned'}"
        + ("" if labels is None else f"<br>{group} {letters(int(labels[head]))}")
        + ("<br>represents its cluster" if head in representatives else "")
        for head in every.tolist()
    ]
    lettered = labels is not None and cell >= 17
    for here, symbol, name in ((kept, "square", "kept"), (~kept, "square-open", "pruned")):
        shown = every[here]
        figure.add_trace(
            go.Scatter(
                x=shown % heads,
                y=shown // heads,
                mode="markers+text" if lettered else "markers",
                marker={
                    "symbol": symbol,
                    "size": cell * 0.78,
                    "color": [fill[head] for head in shown],
                    "opacity": 1,
                    "line": {"width": 2 if symbol == "square-open" else 0},
                },
                text=[letters(int(labels[head])) for head in shown] if lettered and labels is not None else None,
                textfont={
                    "size": max(8, min(12, cell * 0.36)),
                    "color": [contrast(fill[head]) if symbol == "square" else colours.text for head in shown],
                },
                customdata=shown,
                hovertext=[words[head] for head in shown],
                hoverinfo="text",
                name=name,
                **UNDIMMED,
            )
        )
    for heads_marked, mark, size in (
        (list(representatives), "circle-open", 0.98),
        ([] if selected is None else [selected], "square-open", 1.0),
    ):
        if heads_marked:
            where = np.asarray(heads_marked)
            figure.add_trace(
                go.Scatter(
                    x=where % heads,
                    y=where // heads,
                    mode="markers",
                    marker={"symbol": mark, "size": cell * size, "color": colours.text, "line": {"width": 2.5}},
                    hoverinfo="skip",
                    showlegend=False,
                    customdata=where,
                    **UNDIMMED,
                )
            )
    on_grid(figure, layers, heads, width=width)
    figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemsizing": "constant"})
    return figure


def cell_size(layers: int, heads: int, width: int = _WIDTH) -> float:
    """Pixels of one head in a layer-by-head grid."""
    return min(44.0, (width - 70) / heads, (_TALLEST - 90) / layers)


def on_grid(figure: Any, layers: int, heads: int, *, width: int = _WIDTH) -> None:
    """Lay a figure out as the layer-by-head grid: first layer on top, square cells."""
    cell = cell_size(layers, heads, width)
    for axis, count, title in (("xaxis", heads, "Head"), ("yaxis", layers, "Layer (first on top)")):
        step = 1 if count <= 16 else 4
        figure.update_layout(
            {
                axis: {
                    "title": {"text": title},
                    "tickvals": list(range(0, count, step)),
                    "range": [-0.6, count - 0.4] if axis == "xaxis" else [count - 0.4, -0.6],
                    "showgrid": False,
                    "zeroline": False,
                    "fixedrange": True,
                    "constrain": "domain",
                }
            }
        )
    figure.update_layout(
        yaxis={"scaleanchor": "x", "scaleratio": 1},
        height=round(cell * (layers + 0.2)) + 90,
        margin={"l": 50, "r": 10, "t": 34, "b": 46},
    )


def attention_figure(
    tokens: Sequence[str],
    weights: Floats,
    *,
    dark: bool = False,
    height: int = 420,
    top: float | None = None,
    ticks: int = 40,
) -> Any:
    """One head's attention ``weights (S, S)`` over ``tokens``: rows look, columns are looked at.

    ``top`` is the weight that gets the strongest colour (by default the largest), so that several maps can share it.
    At most ``ticks`` tokens are written along each side; the others are named when pointed at.
    """
    import plotly.graph_objects as go

    words = [label(token, limit=14) for token in tokens]
    # Categories must differ, or equal words would fall onto one line.
    places = [f"{place}: {word}" for place, word in enumerate(words)]
    step = max(1, -(-len(words) // ticks))
    axis = {
        "tickvals": list(range(0, len(words), step)),
        "ticktext": words[::step],
        "type": "category",
        "tickfont": {"size": 11 if len(words) <= 24 else 9},
        "showgrid": False,
        "constrain": "domain",
    }
    figure = go.Figure(
        go.Heatmap(
            z=np.asarray(weights, dtype=np.float32).round(4),
            x=places,
            y=places,
            zmin=0,
            zmax=float(top if top is not None else weights.max()) or 1.0,
            # Squared stops: special tokens draw most attention, and the rest must not drown beside them.
            colorscale=[[stop**2, colour] for stop, colour in ink(dark=dark).scale],
            colorbar={"title": {"text": "attention (0..1)", "side": "right"}, "thickness": 10, "len": 0.9},
            hovertemplate="%{y}<br>looks at %{x}<br>with %{z:.3f} of its attention<extra></extra>",
            xgap=1 if len(words) <= 32 else 0,
            ygap=1 if len(words) <= 32 else 0,
        )
    )
    figure.update_layout(
        xaxis={**axis, "title": {"text": "token looked at"}, "side": "bottom", "tickangle": -50},
        yaxis={**axis, "title": {"text": "token that looks"}, "autorange": "reversed"},
        height=height,
        margin={"l": 70, "r": 10, "t": 10, "b": 80},
    )
    return figure


def share_figure(
    shares: Floats,
    *,
    framed: Iterable[tuple[int, int]],
    crossed: Collection[tuple[int, int]] = (),
    scale: str,
    said: str,
    width: int,
    dark: bool,
) -> Any:
    """A share of each head, ``shares (L, H)`` in 0..1: layers by heads, some framed and some crossed out.

    ``scale`` is the title of the colours, and ``said`` what a cell says when pointed at (``%{z}`` is in per cent).
    """
    import plotly.graph_objects as go

    colours, (layers, heads) = ink(dark=dark), shares.shape
    figure = go.Figure(
        go.Heatmap(
            z=100 * shares,
            zmin=0,
            zmax=100,
            colorscale=[list(stop) for stop in colours.scale],
            colorbar={"title": {"text": scale, "side": "right"}, "thickness": 10},
            xgap=2,
            ygap=2,
            hovertemplate=f"layer %{{y}}, head %{{x}}<br>{said}<extra></extra>",
        )
    )
    if cell_size(layers, heads, width) >= 20:
        gone = set(crossed)
        texts = [
            ["×" if (layer, head) in gone else f"{100 * shares[layer, head]:.0f}" for head in range(heads)]
            for layer in range(layers)
        ]
        figure.add_trace(written(texts, shares.tolist(), colours, size=10))
    for layer, head in framed:
        figure.add_shape(
            type="rect",
            x0=head - 0.46,
            x1=head + 0.46,
            y0=layer - 0.46,
            y1=layer + 0.46,
            line={"color": CLUSTER_COLOURS[1], "width": 2.5},
        )
    on_grid(figure, layers, heads, width=width)
    figure.update_layout(showlegend=False)
    return figure


def written(texts: Sequence[Sequence[str]], shares: Any, colours: Ink, *, size: int = 11) -> Any:
    """Texts in the cells of a heat map, each in black or white as its cell's ``share`` of the scale asks for."""
    import plotly.graph_objects as go

    places = [(row, column) for row in range(len(texts)) for column in range(len(texts[row]))]
    return go.Scatter(
        x=[column for _, column in places],
        y=[row for row, _ in places],
        text=[texts[row][column] for row, column in places],
        mode="text",
        textfont={
            "size": size,
            "color": [contrast(_on_scale(colours, shares[row][column])) for row, column in places],
        },
        hoverinfo="skip",
        showlegend=False,
    )


def _on_scale(colours: Ink, share: float) -> str:
    """The colour that a share of the scale has."""
    stops = [stop for stop, _ in colours.scale]
    channels = [
        np.interp(share, stops, [int(colour[at : at + 2], 16) for _, colour in colours.scale]) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{round(float(channel)):02x}" for channel in channels)


def contrast(colour: str) -> str:
    """Black or white, whichever is easier to read on ``#rrggbb`` (WCAG relative luminance)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
