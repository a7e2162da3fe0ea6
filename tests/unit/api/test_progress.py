"""Progress shows itself where a person waits, once, and an interruption is one sentence."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from cahp.api.progress import Interrupted, show_progress


class Output:
    """The output of a cell: what lies in it now, and how often it was drawn."""

    def __init__(self) -> None:
        self.now, self.drawn = "", 0

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.now, self.drawn = bundle["text/html"], self.drawn + 1


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Output:
    """A notebook's cell."""
    output = Output()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=lambda *_, **__: output))
    return output


def test_a_script_shows_nothing_unless_it_is_told_to(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False):
        with show_progress(progress) as reporter:
            reporter("load", 1, 1)
            reporter.say("nothing")
    assert capsys.readouterr() == ("", "")


def test_somebody_at_a_terminal_sees_bars_by_themselves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress(False) as reporter:
        reporter("load", 1, 1)
    with show_progress(None) as reporter:
        reporter("load", 1, 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading the model" in err


def test_a_callable_is_told_instead(cell: Output) -> None:
    told: list[tuple[str, int, int]] = []
    with show_progress(lambda *said: told.append(said)) as reporter:
        reporter("load", 1, 1)
    assert told == [("load", 1, 1)]
    assert cell.drawn == 0


def test_a_cell_shows_a_bar_a_stage_and_is_empty_afterwards(cell: Output, capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(None) as reporter:
        for done in range(1001):
            reporter("signatures", done, 1000)
        assert 'max="1000" value="1000"' in cell.now
        assert "watching the heads" in cell.now
        reporter.say("epoch <1>")
        assert "epoch &lt;1&gt;" in cell.now
        # A page that is drawn at every batch only flickers.
        assert cell.drawn < 100
    assert cell.now == ""
    assert capsys.readouterr() == ("", "")


def test_a_stopped_cell_is_one_sentence_and_is_cleared(cell: Output) -> None:
    def work() -> None:
        with show_progress(None) as reporter:
            reporter("load", 0, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        work()
    assert isinstance(stopped.value, Interrupted)
    assert stopped.value._render_traceback_() == [
        "stopped; finished measurements are cached, and the same call resumes from there"
    ]
    assert cell.now == ""
