"""What every page has in common: its frame, this session's explorer, and what a person should know first."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp import bundled, models
from cahp.access import enforced
from cahp.bundled import Bundle
from cahp.run.document import machine
from cahp.ui.frame import address, narrow, pages, sidebar, source_dialog
from cahp.ui.parts.text import plain
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.lifetime import is_served, page_drawn
from cahp.ui.session.opening import Source
from cahp.values import CahpError

_EXPLORER = "cahp_explorer"
_NOTE = "cahp_note"
#: Session key: models and data that were on screen before, by what an address says of them; and how many of them.
_SOURCES, _REMEMBERED = "cahp_sources", 2


def page(title: str) -> Explorer:
    """Start a page: frame, style, sidebar; this browser session's explorer, or a designed message and no more."""
    page_drawn()
    st.set_page_config(
        page_title=f"{title} · CAHP explorer",
        page_icon=str(models.assets() / "icon.png"),
        layout="wide",
        initial_sidebar_state="auto",
    )
    st.html(models.assets() / "explorer.css")
    if is_served(_session_id()) and not enforced.is_set():
        # Streamlit was started on this one script: nothing asks for the token or looks at who comes.
        problem("A page is not opened alone: start the explorer with cahp explore, and choose the page there")
        st.stop()
    explorer = _explorer()
    explorer.collect()
    address.write(explorer)
    source_dialog.offer(explorer)
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


def provenance(explorer: Explorer, *shown: str) -> str:
    """Where the figures of the mask on the board come from, after the recoveries that are ``shown``, in Markdown."""
    results = explorer.results
    if results.bundle is None:
        return f"Measured on this machine ({plain(machine())})."
    if all(results.ships(explorer.mask, recover) for recover in shown):
        return of_bundle(explorer, results.bundle)
    # Whatever the budgets keep, it follows from the same clusters.
    curves = all(results.ships_table(explorer.settings, recover) for recover in shown)
    return f"This mask: measured here. {'Curves' if curves else 'Clusters'}: bundled, {_made(results.bundle)}."


def of_bundle(explorer: Explorer, bundle: Bundle) -> str:
    """Where figures of the bundled run come from, in Markdown."""
    timed = " Its time: measured here." if explorer.results.costs(explorer.mask) is not None else ""
    return f"Bundled result, {_made(bundle)}.{timed}"


def _made(bundle: Bundle) -> str:
    return f"measured on {plain(bundle.made['machine'])}, {bundle.made['date']}"


# The session's explorer --------------------------------------------------------------------------------------


def _explorer() -> Explorer:
    found = st.session_state.get(_EXPLORER)
    if isinstance(found, Explorer):
        explorer = _opened(found)
        return _went_back(explorer) if address.came_back() else explorer
    wish = None
    try:
        settings, wish = address.asked(address.view())
        explorer = Explorer(_session_id(), Source.open(settings))
    except CahpError as error:
        explorer = _fallback(error)
    st.session_state[_EXPLORER] = explorer
    if wish is not None:
        # Reading from the network or a folder waits for a person's yes; a link alone does not do it.
        st.session_state[address.WISH] = wish
    else:
        _restore(explorer, address.view())
    return explorer


def _fallback(error: CahpError) -> Explorer:
    """The embedded default where a link asked for something that cannot be used; the end where that is missing too."""
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


def _opened(explorer: Explorer) -> Explorer:
    """Take over a model and data that the worker has opened meanwhile."""
    job = st.session_state.get(address.OPENING)
    if job is None or not job.ended:
        return explorer
    del st.session_state[address.OPENING]
    if job.result is None:
        st.session_state[_NOTE] = job.error
        source_dialog.failed(job.error)
        return explorer
    wish = source_dialog.succeeded()
    explorer = _exchange(explorer, job.result)
    if wish is not None:
        if wish.files not in (None, job.result.fingerprint):
            st.session_state[_NOTE] = "The link was made with other files than these; its view may not fit them."
        _restore(explorer, wish.board)
    return explorer


def _went_back(explorer: Explorer) -> Explorer:
    """What the browser's Back or Forward leads to, as its address says."""
    params, here = address.view(), address.wanted(explorer)
    if "model" not in params:
        return explorer
    st.session_state.pop(address.WISH, None)
    try:
        there = address.source_of(params)
        if there != address.source_of(here):
            source = _sources().get(there)
            if source is None:
                settings, wish = address.asked(params)
                if wish is not None:
                    st.session_state[address.WISH] = wish
                    return explorer
                source = Source.open(settings)
            explorer = _exchange(explorer, source)
        explorer.change(**address.choices_of(params))
    except CahpError as error:
        st.session_state[_NOTE] = str(error)
    else:
        _restore(explorer, params)
    return explorer


def _exchange(explorer: Explorer, source: Source) -> Explorer:
    """Another model or data; the ones before are remembered for whoever goes back."""
    _sources()[address.source_of(address.wanted(explorer))] = explorer.source
    while len(_sources()) > _REMEMBERED:
        _sources().pop(next(iter(_sources())))
    explorer.close()
    st.session_state[_EXPLORER] = there = Explorer(explorer.id, source)
    # What is pinned is held against the other model too, or waits until its own is back.
    there.pinned, there.pin_asked = explorer.pinned, explorer.pin_asked
    return there


def _sources() -> dict[frozenset[tuple[str, str]], Source]:
    return st.session_state.setdefault(_SOURCES, {})  # type: ignore[no-any-return]


def _restore(explorer: Explorer, params: Mapping[str, str]) -> None:
    try:
        address.restore(explorer, params)
    except CahpError as broken:
        st.session_state[_NOTE] = str(broken)


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
