"""What sessions had that are gone."""

import gc
import time
import weakref

import pytest
from streamlit.testing.v1 import AppTest

from cahp.api import bundled
from cahp.ui.session import jobs
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.jobs import is_quiet, start_cleaning
from cahp.ui.session.opening import Source


def test_what_a_session_had_is_freed_once_the_server_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_CHECK_S", 0.01)
    monkeypatch.setattr(jobs, "_last_drawn", -1e6)
    here, gone = (Explorer(name, Source.open(bundled.SETTINGS)) for name in ("here", "gone"))
    for explorer in (here, gone):
        assert explorer.table() is not None
    had = weakref.ref(gone.results)
    # Automatic collection must not do the work that is tested.
    gc.disable()
    try:
        del gone, explorer
        assert had() is not None
        start_cleaning()
        deadline = time.monotonic() + 10
        while had() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert had() is None
        assert here.table() is not None
    finally:
        gc.enable()
        # The thread lives as long as the process.
        monkeypatch.setattr(jobs, "_CHECK_S", 3600.0)


def test_nothing_is_quiet_as_long_as_a_page_is_being_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def script() -> None:
        import streamlit as st

        from cahp.ui.session.jobs import is_quiet

        st.write(str(is_quiet()))

    # The last page was begun long ago.
    monkeypatch.setattr(jobs, "_last_drawn", -1e6)
    app = AppTest.from_function(script).run()
    assert [said.value for said in app.markdown] == ["False"]
    # A page that was just drawn may be followed by another one.
    assert not is_quiet()
    monkeypatch.setattr(jobs, "_last_drawn", jobs.monotonic() - 1.1)
    assert is_quiet()
