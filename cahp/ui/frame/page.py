"""The frame of every page: style, navigation, sidebar, and the session's explorer.

Every page of the app starts with ``page``. Pages are found beside ``app.py`` and named by key, so that no other file
has their paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cahp import bundled, models
from cahp.access import enforced
from cahp.bundled import Bundle
from cahp.run.document import machine
from cahp.ui.frame import address, sidebar, source_dialog
from cahp.ui.parts.display import plain, problem
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.lifetime import is_served, page_drawn
from cahp.ui.session.opening import Source
from cahp.values import CahpError

_EXPLORER = "cahp_explorer"
_NOTE = "cahp_note"
#: Session key: earlier models and data by their fields in the address; and how many are kept.
_SOURCES, _REMEMBERED = "cahp_sources", 2
#: A page's file: a number, which orders it, and its name, as Streamlit reads them.
_FILE = re.compile(r"(\d+)_(\w+)")


def page(title: str) -> Explorer:
    """Start a page and return the explorer of this browser session; without one, show why and stop."""
    page_drawn()
    st.set_page_config(
        page_title=f"{title} · CAHP explorer",
        page_icon=str(models.assets() / "icon.png"),
        layout="wide",
        initial_sidebar_state="auto",
    )
    st.html(models.assets() / "explorer.css")
    if is_served(_session_id()) and not enforced.is_set():
        # Streamlit was started with this script alone, so nothing checks the token or the host.
        problem("A page cannot be opened alone. Start the explorer with cahp explore and choose the page there")
        st.stop()
    explorer = _explorer()
    explorer.collect()
    address.write(explorer)
    source_dialog.offer(explorer)
    with st.sidebar:
        _navigation()
        sidebar.draw(explorer)
    _show_notes(explorer)
    return explorer


def provenance(explorer: Explorer, *shown: str) -> str:
    """Describe in Markdown where the figures of the mask on the board were measured, for the ``shown`` recoveries."""
    results = explorer.results
    if results.bundle is None:
        return f"Measured on this machine ({plain(machine())})."
    if all(results.ships(explorer.mask, recover) for recover in shown):
        return of_bundle(explorer, results.bundle)
    # The budgets choose from the same clusters.
    curves = all(results.ships_table(explorer.settings, recover) for recover in shown)
    return f"This mask: measured here. {'Curves' if curves else 'Clusters'}: bundled, {_measured_on(results.bundle)}."


def of_bundle(explorer: Explorer, bundle: Bundle) -> str:
    """Describe in Markdown where figures of the bundled run were measured."""
    timed = " Its time: measured here." if explorer.results.costs(explorer.mask) is not None else ""
    return f"Bundled result, {_measured_on(bundle)}.{timed}"


def _measured_on(bundle: Bundle) -> str:
    return f"measured on {plain(bundle.made['machine'])}, {bundle.made['date']}"


# The session's explorer --------------------------------------------------------------------------------------


def _explorer() -> Explorer:
    explorer = st.session_state.get(_EXPLORER)
    if isinstance(explorer, Explorer):
        explorer = _take_opened(explorer)
        return _follow_history(explorer) if address.is_history_navigation() else explorer
    wish = None
    try:
        settings, wish = address.read(address.view())
        explorer = Explorer(_session_id(), Source.open(settings))
    except CahpError as error:
        explorer = _fallback(error)
    st.session_state[_EXPLORER] = explorer
    if wish is not None:
        # A link alone must not read from the network or a folder: the page asks first.
        st.session_state[address.WISH] = wish
    else:
        _restore(explorer, address.view())
    return explorer


def _fallback(error: CahpError) -> Explorer:
    """Return the built-in default after a link that cannot be opened; stop the page if the default is missing too."""
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


def _take_opened(explorer: Explorer) -> Explorer:
    """Show a model and data that were opened in the background."""
    job = st.session_state.get(address.OPENING)
    if job is None or not job.ended:
        return explorer
    del st.session_state[address.OPENING]
    if job.result is None:
        st.session_state[_NOTE] = job.error
        source_dialog.failed(job.error)
        return explorer
    wish = source_dialog.succeeded()
    explorer = _replace(explorer, job.result)
    if wish is not None:
        if wish.files not in (None, job.result.fingerprint):
            st.session_state[_NOTE] = "These are not the files that the link was made with; its view may not fit them."
        _restore(explorer, wish.board)
    return explorer


def _follow_history(explorer: Explorer) -> Explorer:
    """Restore the view in the address after the browser's Back or Forward."""
    params, current = address.view(), address.describe(explorer)
    if "model" not in params:
        return explorer
    st.session_state.pop(address.WISH, None)
    try:
        target = address.source_of(params)
        if target != address.source_of(current):
            source = _sources().get(target)
            if source is None:
                settings, wish = address.read(params)
                if wish is not None:
                    st.session_state[address.WISH] = wish
                    return explorer
                source = Source.open(settings)
            explorer = _replace(explorer, source)
        explorer.change(**address.read_choices(params))
    except CahpError as error:
        st.session_state[_NOTE] = str(error)
    else:
        _restore(explorer, params)
    return explorer


def _replace(explorer: Explorer, source: Source) -> Explorer:
    """Show another model or data; the earlier ones are kept for the browser's Back button."""
    _sources()[address.source_of(address.describe(explorer))] = explorer.source
    while len(_sources()) > _REMEMBERED:
        _sources().pop(next(iter(_sources())))
    explorer.close()
    st.session_state[_EXPLORER] = new = Explorer(explorer.id, source)
    # A pin is compared with the other model too, or waits until its own model is back.
    new.pinned, new.pin_asked = explorer.pinned, explorer.pin_asked
    return new


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


def _show_notes(explorer: Explorer) -> None:
    """Show errors and notices above the page."""
    for note in (st.session_state.pop(_NOTE, None), explorer.trouble):
        if note:
            problem(note)
    explorer.trouble = None
    if explorer.results.outdated and explorer.results.run is None:
        st.info(
            "The bundled run was made with another version of this model or data, so it is not shown. Measure on this "
            "machine to see current results."
        )


# Links to pages ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PageScript:
    """A page of the app: its label in the navigation, and its script's path for Streamlit's links."""

    label: str
    path: str

    @property
    def key(self) -> str:
        """Its name in calls of ``link``."""
        return self.label.lower().replace(" ", "-")


@cache
def find_pages(folder: Path) -> tuple[PageScript, ...]:
    """Return the pages of the app in ``folder``: home, then the scripts in ``pages/`` in the order of their numbers.

    The folder is read once, as pages do not change while a server runs.
    """
    return tuple(_find_pages(folder))


def _find_pages(folder: Path) -> Iterator[PageScript]:
    if (folder / "app.py").is_file():
        yield PageScript("Home", "app.py")
    named = [(path, match) for path in folder.glob("pages/*.py") if (match := _FILE.fullmatch(path.stem))]
    for path, match in sorted(named, key=lambda pair: int(pair[1][1])):
        yield PageScript(match[2].replace("_", " "), f"pages/{path.name}")


def link(key: str, label: str, *, otherwise: str = "", **more: str) -> None:
    """Draw a link to another page with the same view and ``more`` fields in its address.

    ``otherwise`` is shown where a page was started on its own.
    """
    for script in _app_pages():
        if script.key == key and _page_link(script, label, **more):
            return
    if otherwise:
        st.markdown(otherwise)


def _navigation() -> None:
    with st.container(key="pages", gap=None):
        for script in _app_pages():
            _page_link(script, script.label)


def _app_pages() -> tuple[PageScript, ...]:
    context = get_script_run_ctx()
    return () if context is None else find_pages(Path(context.main_script_path).parent)


def _page_link(script: PageScript, label: str, **more: str) -> bool:
    try:
        st.page_link(script.path, label=label, query_params={**address.view(), **more})
    except (StreamlitAPIException, KeyError):
        return False
    return True
