"""A process that has everything imported and forks one command at a time, to be killed or not.

Run as a program, it reads a JSON object a line from stdin (``words``, ``cache``, ``place`` for temporary files,
``kill_after`` in seconds or null) and answers each with one line: the exit code (negative: the signal) and the seconds
that the command lived.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    seconds: float


class Nursery:
    """Commands in processes that need no second to begin."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, words: Sequence[object], *, cache: Path, place: Path, kill_after: float | None = None) -> Ended:
        """Run a command to its end, or for some seconds and then ``kill -9``."""
        said = {
            "words": list(map(str, words)),
            "cache": str(cache),
            "place": str(place),
            "kill_after": kill_after,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery for as long as the block lasts."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


def _main() -> None:
    import torch

    import cahp.api.export
    import cahp.comparison.running
    import cahp.models.saving
    from cahp import cli, models

    del cahp, models
    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _live(asked, cli)
        print(json.dumps({"code": _ending(child, asked["kill_after"]), "seconds": time.monotonic() - started}))
        sys.stdout.flush()


def _live(asked: dict[str, Any], cli: Any) -> None:
    place = Path(asked["place"])
    os.environ |= {"CAHP_CACHE": asked["cache"], "TMPDIR": asked["place"]}
    tempfile.tempdir = None
    with (place / "said.txt").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        code = 1
        try:
            code = cli.run(asked["words"])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _ending(child: int, kill_after: float | None) -> int:
    end = None if kill_after is None else time.monotonic() + kill_after
    while True:
        done, status = os.waitpid(child, 0 if end is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            end = None
        time.sleep(0.001)


if __name__ == "__main__":
    _main()
