"""An explorer in a process of its own, for tests that open it with a browser or over its socket."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[1]


@contextmanager
def explorer(cache: Path) -> Iterator[str]:
    """The address of an explorer that keeps its results in ``cache``."""
    port = free_port()
    cache.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}", "--server.headless=true"]
    # Edits of the code during a test must not rerun its pages.
    command.append("--server.fileWatcherType=none")
    url = f"http://127.0.0.1:{port}"
    log = cache / "streamlit.log"
    environment = {**os.environ, "CAHP_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            wait_until_there(process, f"{url}/_stcore/health", log)
            yield url
        finally:
            process.kill()


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_until_there(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until a server answers at this address; fail with its log if it does not."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')}", pytrace=False)
