"""``cahp explore`` as its users meet it; that the explorer itself starts is tested in tests/ui."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
from terminal import call, refused

from cahp.access import Access
from cahp.cli import explore

Started = list[tuple[list[str], dict[str, Any]]]


def make_process(*waits: object) -> MagicMock:
    """A server for which a caller waits with these outcomes."""
    process = MagicMock(wait=Mock(side_effect=waits))
    process.__enter__.return_value, process.__exit__.return_value = process, None
    return process


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that were started, each by its command and options; they end with code 3."""
    started: list[tuple[list[str], dict[str, Any]]] = []

    def start(command: list[str], **options: Any) -> MagicMock:
        started.append((command, options))
        return make_process(3)

    monkeypatch.setattr(explore.importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def test_streamlit_is_started_at_the_port_and_its_exit_code_is_the_command_s(started: Started) -> None:
    answer = call("explore", "--port", 8765, "--no-browser")
    assert (answer.code, answer.out, answer.err) == (3, "", "")
    ((command, options),) = started
    usual = ["-m", "streamlit", "run", "app.py", "--server.port=8765"]
    assert command[1:] == [*usual, "--server.headless=true"]
    assert (options["cwd"] / "app.py").is_file()


def test_who_ends_the_command_ends_the_server(tmp_path: Path) -> None:
    """Service managers send one signal, to the process that they know of."""
    server = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    ours = f"""
import sys
from cahp.access import Access
from cahp.cli import explore
explore.importlib.util.find_spec = lambda _: True
explore.home = lambda: {str(tmp_path)!r}
explore.command_line = lambda port: [sys.executable, "-c", {server!r}]
sys.exit(explore.start(Access(), port=8765, browser=True))
"""
    with subprocess.Popen([sys.executable, "-c", ours]) as command:
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            assert command.poll() is None
            time.sleep(0.02)
        command.terminate()
        assert command.wait(timeout=20) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_every_start_has_a_token_of_its_own_which_no_list_of_processes_shows(started: Started) -> None:
    call("explore")
    call("explore")
    said = [Access.from_environment(options["env"]) for _, options in started]
    tokens = {access.token for access in said}
    assert len(tokens) == 2
    assert min(map(len, tokens)) > 32
    assert said == [Access(token=access.token) for access in said]
    assert not any(token in word for command, _ in started for word in command for token in tokens)


def test_what_options_say_reaches_the_server(started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore.socket, "gethostname", lambda: "Lab")
    call("explore", "--no-token")
    call("explore", "--host", "127.0.0.1", "--host", "Explorer.Example")
    call("explore", "--host", "0.0.0.0", "--public", "--data-root", tmp_path)
    without, named, public = (Access.from_environment(options["env"]) for _, options in started)
    assert without == Access()
    assert named == Access(hosts=("127.0.0.1", "explorer.example"), token=named.token)
    assert named.token
    assert public == Access(hosts=("0.0.0.0", "lab", "lab.local"), public=True, data_root=tmp_path)
    flags = [command[6:] for command, _ in started]
    assert flags == [
        [],
        ["--server.address=127.0.0.1"],
        ["--server.address=0.0.0.0", "--server.maxUploadSize=5", "--server.maxMessageSize=32"],
    ]


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        *(("--host", host, "--host must be an address or a name") for host in ("http://lab", "lab:8501/", "", "a b")),
        ("--host", "someone@lab", "--host must be an address or a name"),
        # An address that is nobody's, set aside for examples.
        ("--host", "203.0.113.77", "203.0.113.77 is no address of this machine; use 0.0.0.0 for all its addresses"),
        ("--data-root", "missing", "is not a folder; name one with --data-root"),
    ],
)
def test_what_cannot_be_served_is_refused(option: str, value: str, sentence: str, started: Started) -> None:
    assert sentence in refused(call("explore", option, value))
    assert started == []


def test_a_port_in_use_is_refused_with_the_option(started: Started) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use; name another with --port" in refused(call("explore", "--port", port))
    assert started == []


def test_at_ctrl_c_the_server_has_time_to_end(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    process = make_process(KeyboardInterrupt, 3)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: process)
    assert call("explore").code == 130
    assert process.wait.call_args.kwargs == {"timeout": 10.0}
    process.kill.assert_called_once_with()
