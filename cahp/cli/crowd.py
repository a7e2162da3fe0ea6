"""``cahp bench --sessions``: an explorer of its own and many people in it, each a process apart from this one.

The explorer begins with an empty cache, so that it shows the finished results that ship. Who visits it is
``cahp.ui.crowd``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from cahp.access import Access
from cahp.cli import explore
from cahp.values import CahpError, Progress, silent

STAGE = "bench"

#: Seconds that an explorer may take to begin.
_STARTING = 120.0

_WORDS = {
    "home": "Home, by a link",
    "budget": "Budget",
    "move": "a measured budget",
    "compare": "Compare",
    "home again": "Home again",
}


def measure(sessions: int, *, url: str | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Send so many people at once through an explorer, one of its own without a ``url``; what they waited for and saw.

    Raises:
        CahpError: If there is no explorer, or it lets nobody in.
    """
    memory: dict[str, int | None] = {"peak_bytes": None}
    with nullcontext(url) if url is not None else _explorer(memory) as address:
        found = _visit(address, sessions, progress)
    return {**found, "memory": memory}


def words(found: Mapping[str, Any]) -> Iterator[str]:
    """What was found, as a person reads it."""
    load = "" if found["load"] is None else f", load {found['load']:.1f}"
    yield f"{found['sessions']} people at once, {found['cores']} cores{load}"
    yield f"  {'':<20}{'p50':>8}{'p95':>8}{'all':>8}"
    for name, times in found["seconds"].items():
        yield f"  {_WORDS.get(name, name):<20}" + "".join(f"{times[share]:>6.2f} s" for share in ("p50", "p95", "all"))
    seen = found["seen"]
    yield (
        f"  shown: {seen['right']} times what was asked for, {seen['wrong']} times wrong figures, "
        f"{seen['another']} times another's, {seen['failed']} times nothing"
    )
    peak = found["memory"]["peak_bytes"]
    if peak is not None:
        yield f"  memory of the explorer, at most: {peak / 1e6:,.0f} MB"
    yield from (f"  {sentence}" for sentence in found["said"])


def _visit(address: str | None, sessions: int, progress: Progress) -> dict[str, Any]:
    """Send people there, from a process of their own: this one knows no Streamlit."""
    command = [sys.executable, "-m", "cahp.ui.crowd"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as visitors:
        assert visitors.stdin is not None
        assert visitors.stdout is not None
        try:
            # Not in the command, which everybody on this machine may read: the address may carry a token.
            visitors.stdin.write(json.dumps({"url": address, "sessions": sessions}))
            visitors.stdin.close()
            for line in visitors.stdout:
                said = json.loads(line)
                if "error" in said:
                    raise CahpError(said["error"])
                if "found" in said:
                    return dict(said["found"])
                progress(STAGE, said["done"], said["of"])
        finally:
            visitors.kill()
    raise CahpError("the visitors ended before they had seen everything; what stands above says why")


@contextmanager
def _explorer(memory: dict[str, int | None]) -> Iterator[str]:
    """The address of an explorer of its own; afterwards, what it took of memory at most."""
    explore.check_installed()
    access = Access(token=secrets.token_urlsafe(32))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with TemporaryDirectory(prefix="cahp-bench-") as cache, (Path(cache) / "log").open("wb") as log:
        server = subprocess.Popen(
            [*explore.command_line(port), "--server.address=127.0.0.1", "--server.headless=true"],
            cwd=explore.home(),
            env={**os.environ, **access.environment(), "CAHP_CACHE": cache, "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(server, port, Path(log.name))
            yield f"http://127.0.0.1:{port}/?token={access.token}"
        finally:
            memory["peak_bytes"] = _peak(server)
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the explorer takes connections; it does so once it is ready."""
    until = monotonic() + _STARTING
    while monotonic() < until and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
                probe.sendall(b"GET /_stcore/health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                if probe.recv(8):
                    return
        except OSError:
            pass
        sleep(0.1)
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise CahpError(f"the explorer did not start ({said[-1] if said else 'it said nothing'}); try `cahp explore`")


def _peak(server: subprocess.Popen[bytes]) -> int | None:
    """What a process took of memory at most so far, in bytes (None: this system does not say)."""
    try:
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # Not what the system says of ended children: that counts the process that started them along.
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024
