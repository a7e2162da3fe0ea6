"""``cahp explore`` as its users meet it; that the explorer itself starts is tested in tests/ui."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest
from terminal import call, refused

from cahp.cli import explore


@pytest.mark.parametrize(("words", "expected"), [([], []), (["--no-browser"], ["--server.headless=true"])])
def test_streamlit_is_started_at_the_port_and_its_exit_code_is_the_command_s(
    words: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, Any]]] = []

    def run(command: list[str], **options: Any) -> Any:
        started.append((command, options))
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(explore.importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(subprocess, "run", run)
    answer = call("explore", "--port", 8765, *words)
    assert (answer.code, answer.out, answer.err) == (3, "", "")
    ((command, options),) = started
    assert command[1:] == ["-m", "streamlit", "run", "app.py", "--server.port=8765", *expected]
    assert (options["cwd"] / "app.py").is_file()


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore.importlib.util, "find_spec", lambda name: None if name == "pyvis" else True)
    assert refused(call("explore")) == "the explorer needs pyvis; run `pip install 'cahp-explorer[ui,demo]'`"
