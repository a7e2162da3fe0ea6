"""Charts, tables and other people's words, as every page shows them.

The title of a chart states its finding, a paragraph explains how to read it, an alternative text describes it to a
screen reader, and its numbers can be downloaded. ``figures.marks.label`` escapes what a person typed before Plotly
gets it, since Plotly reads tags in labels.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import streamlit as st

from cahp.files import csv_text
from cahp.models.cards import ModelCard
from cahp.show.blocks import Columns
from cahp.values import CahpError
from cahp.words import capital, counted

T = TypeVar("T")

_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&@])")
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=%|×|nats|points|ms)")
#: Objects kept for one owner; the least recently used are dropped first.
MOST_CACHED = 160

#: A table to download, or what makes it when it is asked for.
Table = Columns | Callable[[], Columns]


def plain(text: str) -> str:
    """Escape text for Streamlit's Markdown: no links, images, HTML, formulas, colours or icons."""
    # A line break inside would end the paragraph, and could start a list or heading in the next line.
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def bind_units(text: str) -> str:
    """Put a no-break space between each number and its unit, so that narrow columns do not break a line there."""
    return _BEFORE_UNIT.sub("\u00a0", text)


def problem(error: object) -> None:
    """Show an error as one sentence; its words are not read as markup."""
    sentence = capital(str(error).strip())
    if not sentence.endswith((".", "!", "?")):
        sentence += "."
    st.error(plain(sentence))


def describe_size(card: ModelCard) -> str:
    """Return the number of layers and of what can be pruned in each, and their product."""
    size = f"{counted(card.layers, 'layer')} × {counted(card.heads, card.unit)} = {card.total}"
    if card.group > 1:
        size += f" {card.unit}s of {card.group} heads"
    return size


def describe_square(card: ModelCard) -> str:
    """Return what a square of a board stands for."""
    if card.group == 1:
        return "one attention head"
    return f"a group of {card.group} heads that share keys and values"


def is_dark() -> bool:
    """Return whether this browser shows the dark theme."""
    return bool(st.context.theme.type == "dark")


_cached: WeakKeyDictionary[Any, OrderedDict[Hashable, Any]] = WeakKeyDictionary()
_lock = threading.RLock()


def cache_with(owner: object, key: Hashable, make: Callable[[], T]) -> T:
    """Return an object that depends on ``owner`` and ``key`` alone; it is made once and freed with its owner.

    All sessions get the same object, so it must not be changed. It must not refer to its owner, which would keep both.
    """
    with _lock:
        # One at a time: fifty sessions that need one drawing wait for it instead of making fifty.
        cached = _cached.setdefault(owner, OrderedDict())
        if key not in cached:
            cached[key] = make()
            while len(cached) > MOST_CACHED:
                cached.popitem(last=False)
        cached.move_to_end(key)
        return cached[key]  # type: ignore[no-any-return]


# Charts ------------------------------------------------------------------------------------------------------


def show(
    figure: Any,
    *,
    title: str,
    help: str,
    name: str,
    data: Table,
    formula: str | None = None,
    on_pick: Callable[[int], None] | None = None,
) -> None:
    """Draw a Plotly figure with its heading.

    Args:
        figure: A ``plotly.graph_objects.Figure``, without a title of its own.
        title: The finding, in words.
        help: One paragraph on how to read it (Markdown), which a screen reader says after the title; never a person's
            text.
        name: Names the downloads and, as ``st-key-chart-NAME``, the chart in the page; unique on a page.
        data: The numbers, as a CSV file would hold them.
        formula: TeX, shown under the help.
        on_pick: Called with the ``customdata`` of a point that was clicked, before the page runs again.
    """
    key = f"chart-{name}"
    if "to_dict" not in vars(figure):
        # A figure on screen does not change. Streamlit needs its dictionary at every run of the page, and Plotly would
        # copy and encode the whole figure each time.
        dictionary = figure.to_dict()
        figure.to_dict = lambda: dictionary
    with st.container(key=f"figure-{name}"):
        heading(title, help=help, name=name, data=data, formula=formula, pictures=True)
        options = {}
        if on_pick is not None:

            def pick() -> None:
                points = st.session_state[key].selection.points
                if points:
                    picked = points[0]["customdata"]
                    if not isinstance(picked, (int, float)):
                        picked = picked[0]
                    on_pick(int(picked))

            options = {"on_select": pick, "selection_mode": "points"}
        st.plotly_chart(
            figure,
            key=key,
            alt=f"{title}. {re.sub(r'[*_`#]|[$][^$]*[$]', '', help)}",
            config={"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": name}},
            **options,
        )


def heading(
    title: str,
    *,
    help: str,
    name: str,
    data: Table,
    formula: str | None = None,
    pictures: bool = False,
) -> None:
    """Draw a chart's finding with its explanation and downloads; see ``show``."""
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", key=f"heading-{name}"):
        # Streamlit draws headings at once but HTML a moment later, which would make charts jump.
        st.subheader(plain(title), anchor=False)
        # The style sheet hides the words, which name the button for a screen reader.
        with st.popover(
            plain(f"About: {title}"),
            key=f"about-{name}",
            type="tertiary",
            icon=":material/info:",
            help="How to read this, and downloads",
        ):
            st.markdown(help)
            if formula is not None:
                st.latex(formula)
            with st.container(horizontal=True, vertical_alignment="center"):
                if pictures:
                    buttons = st.components.v2.component(
                        "cahp_pictures", html=_PICTURES_HTML, css=_PICTURES_CSS, js=_PICTURES
                    )
                    buttons(key=f"pictures-{name}", data={"name": name}, width="content", height="content")
                download_csv(data, name)


# Plotly's own exporter, found through the camera of the chart's tool bar, draws the picture in the browser.
_PICTURES = """
export default function ({ data, parentElement }) {
  const save = (format) => {
    const plot = document.querySelector(`.st-key-chart-${CSS.escape(data.name)} .js-plotly-plot`);
    const camera = plot?.querySelector('.modebar-btn[data-attr="toImage"], .modebar-btn[data-title^="Download plot"]');
    if (!camera) return;
    plot._context.toImageButtonOptions = { format, filename: data.name, scale: format === "png" ? 2 : 1 };
    // The page must not see these clicks: it would take them for clicks beside the open panel, and close it.
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


def download_csv(data: Table, name: str) -> None:
    """Draw the button that downloads a table as ``NAME.csv``."""
    download("CSV", lambda: as_csv(data), f"{name}.csv", "text/csv", key=f"csv-{name}", type="tertiary")


def download(
    label: str, data: bytes | Callable[[], bytes], file: str, media: str, *, key: str = "", **look: Any
) -> None:
    """Draw a download button that leaves the page as it is; if ``data`` is a function, a click calls it."""
    key = key or f"get-{file.replace('.', '-')}"
    st.download_button(label, data, file, media, key=key, on_click="ignore", **look)


def show_texts(table: Columns) -> None:
    """Draw a table with a wide column "text"."""
    st.dataframe(
        table,
        hide_index=True,
        # The other columns come first: on a phone a text fills the table.
        column_order=[*(name for name in table if name != "text"), "text"],
        column_config={"text": st.column_config.TextColumn(width="large")},
    )


def as_csv(data: Table) -> bytes:
    """Encode a table as a CSV file that spreadsheets open; none of its cells is run as a formula."""
    columns = data
    if callable(columns):
        columns = columns()
    # The byte order mark tells spreadsheets that this is UTF-8.
    return ("\ufeff" + csv_text(columns, zip(*columns.values(), strict=True))).encode()


# The message about the last action ---------------------------------------------------------------------------


#: Session key: whether the last action was refused, and the message.
_NOTE = "budget-note"


def write_note(message: object) -> None:
    """Show the result of an action, or the error that refused it."""
    st.session_state[_NOTE] = isinstance(message, Exception), str(message)


def clear_note() -> None:
    """Remove the message."""
    st.session_state.pop(_NOTE, None)


@contextmanager
def note_refusal() -> Iterator[None]:
    """Remove the message of the last action; if the action inside is refused, its error is the message."""
    clear_note()
    try:
        yield
    except CahpError as error:
        write_note(error)


def draw_note() -> None:
    """Draw the message of the last action."""
    # The container always exists, so that a message does not change the identity of later elements.
    with st.container(key="board-note", gap=None):
        refused, message = st.session_state.get(_NOTE, (False, ""))
        if refused:
            problem(message)
        elif message:
            st.info(message)
