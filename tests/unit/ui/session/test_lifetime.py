"""What sessions had that are gone."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from cahp import bundled
from cahp.ui.session import lifetime
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The sessions that somebody is connected to."""
    active = {"here", "gone"}
    instance = SimpleNamespace(is_active_session=active.__contains__)
    runtime = SimpleNamespace(exists=lambda: True, instance=lambda: instance)
    monkeypatch.setattr(lifetime, "Runtime", runtime)
    monkeypatch.setattr(lifetime, "_sessions", weakref.WeakSet())
    return active


def test_a_session_that_is_gone_gives_back_what_it_had_and_others_keep_theirs(there: set[str]) -> None:
    # Automatic collection must not do the work that is tested.
    gc.disable()
    try:
        here, gone = (Explorer(name, Source.open(bundled.SETTINGS)) for name in ("here", "gone"))
        for explorer in (here, gone):
            assert explorer.table() is not None
        had = weakref.ref(gone.results)
        assert not lifetime.free_closed()
        there.discard("gone")
        del gone, explorer
        assert lifetime.free_closed()
        assert had() is None
        assert not lifetime.free_closed()
        assert here.table() is not None
    finally:
        gc.enable()


def test_a_page_is_waited_for_until_a_moment_after_it_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(lifetime, "monotonic", lambda: clock[0])
    lifetime.page_drawn()
    assert not lifetime.is_quiet()
    clock[0] += 1.1
    assert lifetime.is_quiet()


def test_nothing_is_quiet_as_long_as_a_page_is_being_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def script() -> None:
        import streamlit as st

        from cahp.ui.session import lifetime

        st.write(str(lifetime.is_quiet()))

    # The last page was begun long ago.
    monkeypatch.setattr(lifetime, "_last_drawn", -1e6)
    app = AppTest.from_function(script).run()
    assert [said.value for said in app.markdown] == ["False"]
    assert lifetime.is_quiet()
