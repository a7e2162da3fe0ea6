"""``cahp explore``: Streamlit as a process of its own, for this machine only unless somebody is let in."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import typer

from cahp.access import Access, is_every_address
from cahp.cli.command import Call, command
from cahp.cli.options import Option
from cahp.values import CahpError, OptionError

_HOST = Option(
    "host",
    "Address of this machine to listen on in place of the loopback, 0.0.0.0 for all; again: other names it has.",
    list[str],
    [],
)
_PORT = Option("port", "Port on this machine.", int, 8501, low=1024, high=65535)
_TOKEN = Option("token", "Ask for the token that the printed address carries.", bool, True)
_PUBLIC = Option(
    "public",
    "For everybody: no token; no folders of this machine, and nothing from the hub but presets.",
    bool,
    False,
    ("--public",),
)
_ROOT = Option("data_root", "The one folder below which models and data may be opened, also in public.", Path)
_BROWSER = Option("browser", "Open a browser window.", bool, True)
#: What anybody may send, in megabytes: a file, and a message of a page.
_PUBLIC_LIMITS = ("--server.maxUploadSize=5", "--server.maxMessageSize=32")

#: Seconds that the server may take to end.
_ENDING = 10.0


@command(_HOST, _PORT, _TOKEN, _PUBLIC, _ROOT, _BROWSER)
def explore(
    call: Call, host: list[str], port: int, token: bool, public: bool, data_root: Path | None, browser: bool
) -> None:
    """Open the explorer in a browser; unless --host says otherwise, it listens on this machine only."""
    access = Access(
        hosts=_names(host),
        token=secrets.token_urlsafe(32) if token and not public else "",
        public=public,
        data_root=data_root,
    )
    raise typer.Exit(start(access, port=port, browser=browser))


def home() -> Path:
    """The folder that holds ``app.py``: the checkout, or the copy inside an installed wheel."""
    package = Path(__file__).parents[1]
    installed = package / "app"
    return installed if (installed / "app.py").is_file() else package.parent


def check_installed() -> None:
    """Check that what the explorer is made with is installed.

    Raises:
        CahpError: If something is missing.
    """
    missing = [name for name in ("streamlit", "plotly", "pyvis") if importlib.util.find_spec(name) is None]
    if missing:
        raise CahpError(f"the explorer needs {', '.join(missing)}; run `pip install 'cahp-explorer[ui,demo]'`")


def command_line(port: int) -> list[str]:
    """The command that runs the explorer's server on this port, in the folder ``home``."""
    return [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"]


def start(access: Access, *, port: int, browser: bool) -> int:
    """Run the explorer until it is stopped; its exit code. It listens on the first of the hosts.

    Raises:
        CahpError: If Streamlit is not installed.
        OptionError: If the first of the hosts is no address of this machine.
    """
    check_installed()
    command = command_line(port)
    if access.hosts:
        _check(access.hosts[0])
        command.append(f"--server.address={access.hosts[0]}")
    if access.public:
        command += _PUBLIC_LIMITS
    if not browser:
        command.append("--server.headless=true")
    # Started in its own folder: that is where Streamlit looks for its configuration. The environment, unlike the
    # command, is nobody else's to see.
    with subprocess.Popen(command, cwd=home(), env={**os.environ, **access.environment()}) as server:
        # Who ends this process, as service managers do, means the server.
        before = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        try:
            code = server.wait()
            return code if code >= 0 else 128 - code  # as shells write the signal that ended it
        except KeyboardInterrupt:
            # Ctrl-C has reached the server as well; it takes away what opened the browser, and ends.
            with suppress(subprocess.TimeoutExpired):
                server.wait(timeout=_ENDING)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
            server.kill()


def _names(hosts: Sequence[str]) -> tuple[str, ...]:
    """The hosts, and the names of this machine where it listens on all its addresses."""
    given = tuple(host.strip("[]").lower() for host in hosts)
    if any(not host or set(host) & set(" /@?#") for host in given):
        raise OptionError("--host is an address or a name of this machine, without a scheme and without a port")
    if not any(is_every_address(host) for host in given):
        return given
    name = socket.gethostname().lower()
    return (*given, name, f"{name}.local")


def _check(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((host, 0))
    except OSError:
        raise OptionError(f"--host {host} is no address of this machine; 0.0.0.0 stands for all it has") from None
