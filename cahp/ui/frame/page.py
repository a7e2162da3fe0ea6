"""What every page has in common: its frame, this session's explorer, and what a person should know first."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp import bundled, models
from cahp.run.document import machine
from cahp.run.settings import Settings
from cahp.ui.frame import address, narrow, pages, sidebar, source_dialog
from cahp.ui.parts.text import plain
from cahp.ui.session import memory
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.values import CahpError

_EXPLORER = "cahp_explorer"
_NOTE = "cahp_note"


def page(title: str) -> Explorer:
    """Start a page: frame, style, sidebar; this browser session's explorer, or a designed message and no more."""
    memory.page_drawn()
    st.set_page_config(
        page_title=f"{title} · CAHP explorer",
        page_icon=str(models.assets() / "icon.png"),
        layout="wide",
        initial_sidebar_state="auto",
    )
    st.html(models.assets() / "explorer.css")
    explorer = _explorer()
    explorer.collect()
    address.write(explorer)
    with st.sidebar:
        pages.navigation()
        sidebar.draw(explorer)
        narrow.close_sidebar()
    _notes(explorer)
    return explorer


def problem(error: object) -> None:
    """An error a person can do something about, as one sentence; its words are never taken for markup."""
    sentence = str(error).strip()
    end = "" if sentence.endswith((".", "!", "?")) else "."
    st.error(plain(sentence[:1].upper() + sentence[1:] + end))


def provenance(explorer: Explorer) -> str:
    """Where the figures on screen come from, in Markdown."""
    if explorer.results.bundle is not None:
        made = explorer.results.bundle.made
        where = f"measured on {plain(made['machine'])}, {made['date']}"
        if explorer.board.by_hand:
            return f"This mask: measured here. Curves: bundled, {where}."
        timed = " Its time: measured here." if explorer.results.costs(explorer.mask) is not None else ""
        return f"Bundled result, {where}.{timed}"
    return f"Measured on this machine ({plain(machine())})."


# The session's explorer --------------------------------------------------------------------------------------


def _explorer() -> Explorer:
    found = st.session_state.get(_EXPLORER)
    if isinstance(found, Explorer):
        _opened(found)
        return st.session_state[_EXPLORER]  # type: ignore[no-any-return]
    settings, wish = address.asked(st.query_params.to_dict())
    try:
        explorer = Explorer(_session_id(), Source.open(settings))
    except CahpError as error:
        explorer = _fallback(settings, error)
    st.session_state[_EXPLORER] = explorer
    if wish is not None:
        # Reading from the network or a folder waits for a person's yes; a link alone does not do it.
        st.session_state[source_dialog.WISH] = wish
    else:
        try:
            address.restore(explorer)
        except CahpError as broken:
            st.session_state[_NOTE] = str(broken)
    return explorer


def _fallback(settings: Settings, error: CahpError) -> Explorer:
    """The embedded default where a link asked for something that cannot be used; the end where that is missing too."""
    if settings != bundled.SETTINGS:
        try:
            explorer = Explorer(_session_id(), Source.open(bundled.SETTINGS))
        except CahpError as missing:
            error = missing
        else:
            st.session_state[_NOTE] = str(error)
            return explorer
    st.title("The explorer has nothing to show yet")
    problem(error)
    st.markdown("Install what is missing and reload this page; `cahp doctor` checks the whole installation.")
    st.stop()
    raise AssertionError("a stopped page went on")


def _opened(explorer: Explorer) -> None:
    """Take over a model and data that the worker has opened meanwhile."""
    job = st.session_state.get(source_dialog.OPENING)
    if job is None or not job.ended:
        return
    del st.session_state[source_dialog.OPENING]
    if job.result is not None:
        explorer.close()
        st.session_state[_EXPLORER] = Explorer(explorer.id, job.result)
        # The old address named another budget, or a mask for another model.
        address.forget_board()
    elif job.error:
        st.session_state[_NOTE] = job.error


def _session_id() -> str:
    context = get_script_run_ctx()
    return "" if context is None else str(context.session_id)


def _notes(explorer: Explorer) -> None:
    """What a person should know before they read on."""
    for note in (st.session_state.pop(_NOTE, None), explorer.trouble):
        if note:
            problem(note)
    explorer.trouble = None
    if explorer.results.outdated and explorer.results.run is None:
        st.info(
            "A finished run ships with this package, but it was made with another version of this model or data, so it "
            "is not shown. Measure on this machine to see the current one."
        )
