"""What the server makes before anybody comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("streamlit")

from cahp import bundled, data, models
from cahp.api import preflight
from cahp.ui.frame import preparation
from cahp.ui.session.opening import Source
from cahp.ui.session.work import run_seconds
from cahp.values import ModelError


@pytest.fixture(autouse=True)
def looked_after(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to this process's memory, which is left alone here."""
    done: list[str] = []
    monkeypatch.setattr(preparation.gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(preparation.gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(preparation.lifetime, "start_cleaning", lambda _: done.append("look after"))
    return done


def test_who_comes_then_waits_for_nothing_that_all_share(
    looked_after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation.prepare()
    assert looked_after == ["collect", "freeze", "look after"]
    for module, name in ((models, "identify"), (data, "load"), (preflight, "_seconds")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("made again"))
    assert run_seconds(Source.open(bundled.SETTINGS).bench) is not None


@pytest.mark.parametrize("broken", [ModelError("not installed; install it"), ValueError("a torn file")])
def test_what_is_missing_or_broken_does_not_keep_the_server_from_starting(
    broken: Exception, looked_after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> Source:
        raise broken

    monkeypatch.setattr(preparation.Source, "open", refuse)
    preparation.prepare()
    assert looked_after == ["collect", "freeze", "look after"]


def test_what_sessions_would_else_import_at_once_is_there_before_them() -> None:
    code = (
        "import sys; from cahp.ui.frame import preparation; preparation.prepare(); "
        "print({'pandas', 'plotly.graph_objects'} <= set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "True"
