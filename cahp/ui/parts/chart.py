"""Charts as every page shows them.

A title says what the chart found, a paragraph explains how to read it, an alternative text tells it to a screen
reader, and the numbers can be taken home. Whatever a person typed is made harmless by ``figures.labels.label`` before
it meets Plotly, which reads tags in labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from cahp.files import csv_text
from cahp.ui.parts.text import plain

#: A table to download: columns by name, all of one length; or what makes it when it is asked for.
Table = Mapping[str, Sequence[Any]] | Callable[[], Mapping[str, Sequence[Any]]]


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
    _settle(figure)
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


def _settle(figure: Any) -> None:
    """Have the figure make its dictionary once: nobody changes a figure that is shown.

    Streamlit asks for it at every run of the page, and Plotly copies and encodes all that is in the figure each time.
    """
    if "to_dict" not in vars(figure):
        made = figure.to_dict()
        figure.to_dict = lambda: made


def heading(
    title: str, *, help: str, name: str, data: Table, formula: str | None = None, pictures: bool = False
) -> None:
    """A chart's finding, its explanation and its downloads; see ``show``."""
    # A long finding breaks inside its own box (explorer.css); the button stays beside it.
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"heading-{name}"):
        # Streamlit brings headings at once, and HTML a moment later: charts would jump.
        st.subheader(plain(title), anchor=False)
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
button { font: inherit; color: var(--st-link-color); background: none; border: 0; padding: 0; cursor: pointer; }
button { min-width: 24px; min-height: 24px; }
button:hover, button:focus-visible { text-decoration: underline; }
"""


def _pictures(name: str) -> None:
    draw = st.components.v2.component("cahp_pictures", html=_PICTURES_HTML, css=_PICTURES_CSS, js=_PICTURES)
    draw(key=f"pictures-{name}", data={"name": name}, width="content", height="content")


def as_csv(data: Table) -> bytes:
    """A table as a CSV file in UTF-8 that spreadsheets open; no cell is taken for a formula."""
    columns = data() if callable(data) else data
    # The mark tells spreadsheets that this is UTF-8.
    return ("\ufeff" + csv_text(columns, zip(*columns.values(), strict=True))).encode()
