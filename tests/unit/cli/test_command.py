"""Who is asked before much is fetched from the hub."""

from __future__ import annotations

import io
import sys

import pytest

from cahp import hub
from cahp.cli.command import questions
from cahp.values import CahpError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def asked(*, yes: bool = False) -> None:
    with questions(yes=yes):
        hub.require_consent("org/name", 2_000_000_000, error=CahpError)


def test_a_person_at_a_terminal_is_asked_and_told_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    asked()
    assert "org/name takes 2.0 GB" in shown.getvalue()
    for answer in ("n\n", "\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        with pytest.raises(CahpError, match="consent"):
            asked()


def test_yes_consents_to_a_download_and_no_terminal_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    asked(yes=True)
    with pytest.raises(CahpError, match="--yes"):
        asked()
