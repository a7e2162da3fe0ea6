"""``cahp explore``: Streamlit as a process of its own, on this machine only."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import typer

from cahp.cli.command import Call, command
from cahp.cli.options import Option
from cahp.values import CahpError

_PORT = Option("port", "Port on this machine.", int, 8501, low=1024, high=65535)
_BROWSER = Option("browser", "Open a browser window.", bool, True)


@command(_PORT, _BROWSER)
def explore(call: Call, port: int, browser: bool) -> None:
    """Open the explorer in a browser; it listens on this machine only."""
    raise typer.Exit(start(port=port, browser=browser))


def home() -> Path:
    """The folder that holds ``app.py``: the checkout, or the copy inside an installed wheel."""
    package = Path(__file__).parents[1]
    installed = package / "app"
    return installed if (installed / "app.py").is_file() else package.parent


def start(*, port: int, browser: bool) -> int:
    """Run the explorer until it is stopped; its exit code.

    Raises:
        CahpError: If Streamlit is not installed.
    """
    missing = [name for name in ("streamlit", "plotly", "pyvis") if importlib.util.find_spec(name) is None]
    if missing:
        raise CahpError(f"the explorer needs {', '.join(missing)}; run `pip install 'cahp-explorer[ui,demo]'`")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"]
    if not browser:
        command.append("--server.headless=true")
    # Started in its own folder: that is where Streamlit looks for its configuration.
    return subprocess.run(command, cwd=home(), check=False).returncode
