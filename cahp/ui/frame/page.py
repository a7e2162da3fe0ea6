"""The frame of every page: style, navigation, sidebar, and the session's explorer.

Every page of the app starts with ``page``. Pages are found beside ``app.py`` and named by key, so that no other file
has their paths.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Literal

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp import access, features, models
from cahp.access import enforced
from cahp.api import bundled
from cahp.run.document import machine
from cahp.run.settings import describe
from cahp.ui.frame import address, source_dialog
from cahp.ui.frame.running import draw_pill, draw_setting, follow, start_button
from cahp.ui.parts.display import clear_note, describe_size, plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source, is_loaded
from cahp.ui.session.work import RUN
from cahp.values import CahpError
from cahp.words import capital

#: Session keys: the explorer, and the last error until it is dismissed.
_EXPLORER = "cahp_explorer"
_NOTE = "cahp_note"
#: Session key: earlier models and data by their fields in the address; and how many are kept.
_SOURCES = "cahp_sources"
_REMEMBERED = 2

#: The names of pages where they differ from their addresses.
_NAMES = {"Home": "Overview", "Similarity": "My text"}
#: The pages in the sidebar, in groups with a heading or none.
GROUPS = (
    ("Explore", ("Home", "Similarity", "Budget")),
    ("", ("Learn",)),
    ("Evidence", ("Compare", "Stability")),
    ("", ("Export", "Guide")),
)


def page(title: str) -> Explorer:
    """Start the page with this address and return the explorer of this browser session; without one, show why and stop.

    Home is the page at the root.
    """
    st.set_page_config(
        page_title=f"{_NAMES.get(title, title)} · CAHP Explorer",
        page_icon=str(models.assets() / "icon.png"),
        layout="wide",
        # Pixels; on a phone it starts closed, as always.
        initial_sidebar_state=248,
    )
    # The style sheet writes the product's name beside the mark.
    st.logo(models.assets() / "mark.svg", size="large")
    if not enforced.is_set():
        # Streamlit was started with this script alone, so nothing checks the token or the host.
        problem("A page cannot be opened alone. Start the explorer with cahp explore and choose the page there")
        st.stop()
    explorer = _explorer()
    if failure := explorer.collect():
        st.session_state[_NOTE] = failure
    address.drop_other_pages(title)
    address.write(explorer)
    source_dialog.offer(explorer)
    with st.sidebar:
        with st.container(key="pages", gap=None):
            for heading, labels in GROUPS:
                if heading:
                    st.caption(heading)
                for label in labels:
                    link(label, _NAMES.get(label, label))
        _sidebar(explorer)
    if _NOTE in st.session_state:
        with st.container(key="page-note", horizontal=True, vertical_alignment="center"):
            problem(st.session_state[_NOTE])
            forget = partial(st.session_state.pop, _NOTE, None)
            st.button("Dismiss", key="dismiss-note", type="tertiary", on_click=forget)
    draw_pill(explorer)
    for panel in features.panels("Every page"):
        panel.draw(explorer, title, features.panels("Card"))
    return explorer


def provenance(explorer: Explorer, *shown: str) -> str:
    """Describe in Markdown where the figures of the mask on the board were measured, for the ``shown`` recoveries."""
    bundle = explorer.results.bundle
    if bundle is None:
        return f"Measured on this machine ({plain(machine())})."
    words = f"Bundled result, measured on {plain(bundle.made['machine'])}, {bundle.made['date']}."
    if all(explorer.results.ships(explorer.mask, recover) for recover in shown):
        return words
    return f"This mask: measured here. Its clusters: {words}"


# The session's explorer --------------------------------------------------------------------------------------


def _explorer() -> Explorer:
    """Return the session's explorer, with what was opened in the background or what Back or Forward leads to."""
    explorer = st.session_state.get(_EXPLORER)
    params = st.query_params.to_dict()
    if isinstance(explorer, Explorer):
        explorer = _take_opened(explorer)
        if address.is_history_navigation() and "model" in params:
            with _note_errors():
                explorer = _follow_history(explorer, params)
        return explorer
    if "model" not in params:
        params = {**access.current().start, **params}
    settings = bundled.SETTINGS
    wish = None
    source = None
    with _note_errors():
        settings, wish = address.read(params)
        source = Source.open(settings)
    try:
        # A link that cannot be opened shows the built-in default, if it is installed.
        source = source or Source.open(bundled.SETTINGS)
    except CahpError as missing:
        st.title("The explorer has nothing to show yet")
        problem(missing)
        st.markdown("Install what is missing and reload this page; `cahp doctor` checks the whole installation.")
        st.stop()
    context = get_script_run_ctx()
    session = context.session_id if context is not None else ""
    explorer = st.session_state[_EXPLORER] = Explorer(session, source)
    if wish is not None:
        # A link alone must not read from the network or a folder: the page asks first.
        st.session_state[address.WISH] = wish
    elif _NOTE not in st.session_state:
        with _note_errors():
            address.restore(explorer, params)
    return explorer


def _take_opened(explorer: Explorer) -> Explorer:
    """Show a model and data that were opened in the background."""
    job = st.session_state.get(address.OPENING)
    if job is None or not job.ended:
        return explorer
    del st.session_state[address.OPENING]
    wish = st.session_state.pop(address.OPENED, None)
    if job.result is None:
        if job.error:
            st.session_state[_NOTE] = job.error
        if wish is not None:
            st.session_state[address.WISH] = wish
        return explorer
    del st.session_state[address.UPLOADED]
    explorer = _replace(explorer, job.result)
    if wish is not None:
        if wish.files not in (None, job.result.fingerprint):
            st.session_state[_NOTE] = "These are not the files that the link was made with; its view may not fit them."
        with _note_errors():
            address.restore(explorer, wish.board)
    return explorer


def _follow_history(explorer: Explorer, params: address.Address) -> Explorer:
    """Restore the view in the address after the browser's Back or Forward."""
    st.session_state.pop(address.WISH, None)
    target = address.source_of(params)
    if target != address.source_of(address.describe(explorer)):
        source = _sources().get(target)
        if source is None:
            settings, wish = address.read(params)
            if wish is not None:
                st.session_state[address.WISH] = wish
                return explorer
            source = Source.open(settings)
        explorer = _replace(explorer, source)
    with _note_errors():
        explorer.change(**address.read_choices(params))
        address.restore(explorer, params)
    return explorer


def _replace(explorer: Explorer, source: Source) -> Explorer:
    """Show another model or data; the earlier ones are kept for the browser's Back button."""
    sources = _sources()
    sources[address.source_of(address.describe(explorer))] = explorer.source
    while len(sources) > _REMEMBERED:
        sources.pop(next(iter(sources)))
    explorer.close()
    # It is about a mask of the earlier ones.
    clear_note()
    st.session_state[_EXPLORER] = new = Explorer(explorer.id, source)
    # A pin is compared with the other model too, or waits until its own model is back.
    new.pinned = explorer.pinned
    return new


def _sources() -> dict[frozenset[tuple[str, str]], Source]:
    return st.session_state.setdefault(_SOURCES, {})  # type: ignore[no-any-return]


@contextmanager
def _note_errors() -> Iterator[None]:
    """Show an error above the page, which goes on."""
    try:
        yield
    except CahpError as error:
        st.session_state[_NOTE] = str(error)


# Links to pages ----------------------------------------------------------------------------------------------


@cache
def find_pages(folder: Path) -> dict[str, str]:
    """Return the pages of the app in ``folder``, Home first: the paths of their scripts by label, in order.

    The folder is read once, as pages do not change while a server runs.
    """
    return {
        "Home": "app.py",
        **{path.stem[2:]: f"pages/{path.name}" for path in sorted(folder.glob("pages/[0-9]_*.py"))},
    }


def link(key: str, label: str, *, width: Literal["content", "stretch"] = "content", **more: str) -> None:
    """Draw a link to the page ``key``, its label in lower case, with the same view and ``more`` address fields."""
    with _other_pages() as pages:
        fields = st.query_params.to_dict()
        # The head of one page would open its card on another one.
        fields.pop("head", None)
        st.page_link(pages[key.capitalize()], label=label, width=width, query_params={**fields, **more})


def go_to(key: str) -> None:
    """Open the page ``key``, its label in lower case."""
    with _other_pages() as pages:
        st.switch_page(pages[key.capitalize()])


@contextmanager
def _other_pages() -> Iterator[dict[str, str]]:
    """Yield the pages of the app; where one was started on its own, there is no other, and the block is left out."""
    context = get_script_run_ctx()
    with suppress(StreamlitAPIException, KeyError):
        yield find_pages(Path(context.main_script_path).parent) if context is not None else {}


# The sidebar -------------------------------------------------------------------------------------------------

#: What is checked of a model when it is loaded.
_PROOF = (
    "Three checks when the model is loaded: switching off all heads changes the predictions; switching off one head "
    "changes the output of its layer; the masked and the cut model give the same logits. If a check fails, no result "
    "is shown."
)

#: On a tablet or a phone the sidebar starts closed, and closes when a page or a model and data were chosen in it.
#: Streamlit itself closes it below 768 pixels only, and leaves it open over the chosen page.
_CLOSE = """
const narrow = matchMedia("(max-width: 900px)");
const sidebar = () => document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]');
const close = () => {
  if (narrow.matches) sidebar()?.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
};
const chosen = (event) => {
  const ways = '[data-testid="stSidebar"] .st-key-pages a, .st-key-use-source button';
  if (event.target.closest?.(ways)) setTimeout(close, 0);
};
export default function () {
  // Once per document: a person who opens it later wants it open.
  if (document.cahpNarrow) return;
  document.cahpNarrow = true;
  close();
  document.documentElement.dataset.cahpNarrow = "";
  document.addEventListener("click", chosen);
}
"""


def _sidebar(explorer: Explorer) -> None:
    """Draw model and data with a button to change them, the sample, the badge, and the button of a run."""
    card = explorer.card
    run = explorer.results.run
    with st.container(key="source"):
        st.markdown(f"**{plain(card.id)}** on **{plain(explorer.bench.dataset.id)}**")
        st.caption(f"{describe_size(card)} · {card.describes_task}")
        if card.prompt is not None:
            st.caption(f"Prompt “{plain(card.prompt.template[:200])}”, answers {plain(', '.join(card.labels)[:200])}")
        source_dialog.change_button(explorer)
    with st.expander("Sample and device", key="sample"):
        _draw_sample(explorer)
    with st.container(key="badge"):
        if is_loaded(card, device=explorer.settings.device) or (run is not None and run.verified.mask_bites):
            st.badge("✓ Masks verified", color="green", help=_PROOF)
        else:
            st.badge("Masks not yet verified", color="gray", help=_PROOF)
    job = explorer.work.job(RUN)
    if job is not None and not job.ended:
        follow(job, name="sidebar")
    elif explorer.awaits_run or explorer.results.bundled:
        label = "Run with these settings"
        if run is None or explorer.results.bundled:
            label = "Run here"
        start_button(explorer, RUN, explorer.bench, label, key="run-sidebar", width="stretch")
    st.components.v2.component("cahp_narrow", js=_CLOSE)(key="narrow", height="content")


#: The boxes of the settings that size a sample.
_SIZES = {
    "limit": "Calibration texts, at most",
    "eval_limit": "Evaluation texts, at most",
    "max_length": "Tokens read of a text, at most",
    "tokens": "Calibration tokens",
    "eval_tokens": "Evaluation tokens",
}


def _draw_sample(explorer: Explorer) -> None:
    """Draw boxes for the number of texts, or tokens, and the device."""
    st.caption(
        f"Heads are chosen on {explorer.bench.calibration.measured} and evaluated on "
        f"{explorer.bench.evaluation.count:,} others."
    )
    run = explorer.results.run
    if run is not None:
        for notice in (run.data.select.cut_notice, run.data.eval.cut_notice):
            if notice is not None:
                st.caption(plain(capital(notice)))
    for name in explorer.card.task.sizes:
        draw_setting(explorer, st.number_input, _SIZES[name], name, 1, None, None, placeholder="all")
    draw_setting(explorer, st.selectbox, "Device", "device", describe()["device"].choices)
