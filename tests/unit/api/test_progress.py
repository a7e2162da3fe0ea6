"""Progress is shown where a person waits and nowhere else, and an interruption is one sentence."""

import sys

import pytest

from cahp.api.options import Interrupted, show_progress
from cahp.run.resources import on_screen


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that a person types into."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_a_script_shows_nothing_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(None) as reporter:
        reporter("load", 1, 2)
        reporter.say("nothing")
    assert capsys.readouterr() == ("", "")


def test_a_person_sees_bars_that_disappear(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_terminal(monkeypatch)
    with show_progress(False) as reporter:
        reporter("load", 1, 2)
    assert capsys.readouterr() == ("", "")
    with show_progress(None) as reporter:
        for done in range(1001):
            reporter("signatures", done, 1000)
        reporter("load", 1, 2)
        reporter.say("epoch 1")
        shown = capsys.readouterr()
    assert shown.out == ""
    assert on_screen("load") in shown.err
    assert on_screen("signatures") in shown.err
    assert "epoch 1\n" in shown.err
    # A bar that is drawn at every report only flickers.
    assert shown.err.count(on_screen("signatures")) < 100
    # The bar that was open is overwritten with blanks.
    assert capsys.readouterr().err.strip() == ""


def test_bars_are_drawn_in_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("cahp.api.options.in_notebook", lambda: True)
    with show_progress(None) as reporter:
        reporter("load", 0, 1)
        assert on_screen("load") in capsys.readouterr().err


def test_a_callable_is_called_instead(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_terminal(monkeypatch)
    calls: list[tuple[str, int, int]] = []
    with show_progress(lambda *call: calls.append(call)) as reporter:
        reporter("load", 1, 1)
    assert calls == [("load", 1, 1)]
    assert capsys.readouterr() == ("", "")


def test_a_stopped_call_is_one_sentence_for_the_person_who_stopped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt) as stopped, show_progress(None):
        raise KeyboardInterrupt
    assert isinstance(stopped.value, Interrupted)
    assert stopped.value._render_traceback_() == [
        "stopped; finished measurements are cached, and the same call resumes from there"
    ]
