"""Opens files as the program does, in a child process that has two gigabytes, and says what each of them cost.

``refusal`` is for tests; run as a script, this is the child. Time is the child's processor time, so
that a busy machine fails nothing; memory is the most that was resident above what was before.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import selectors
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cahp import data, models
from cahp.comparison.result import read_upload
from cahp.data.tables import read_table
from cahp.exports.masks import read_mask
from cahp.models.loading import load_model
from cahp.values import CahpError

ROOT = Path(__file__).parents[1]
ADDRESS_SPACE = 2 << 30
#: No file may cost more time, nor more memory than the larger of these.
SECONDS, BYTES, TIMES = 1.0, 200 << 20, 20
#: A child that says nothing for so long hangs.
_PATIENCE = 60.0
#: On a busy machine its libraries alone take a minute to load.
_START = 240.0


@dataclass(frozen=True)
class Opened:
    """What became of a file: ``said`` is the refusal, empty where it was of use."""

    said: str
    crash: str
    seconds: float
    bytes: int

    def check(self, size: int) -> str:
        """The refusal, after making sure that the file did no harm."""
        assert not self.crash, self.crash
        assert "\n" not in self.said
        assert len(self.said) < 3000
        assert self.seconds <= SECONDS, f"{self.seconds:.1f} s for {size:,} bytes: {self.said}"
        assert self.bytes <= max(BYTES, TIMES * size), f"{self.bytes >> 20:,} MB for {size:,} bytes: {self.said}"
        return self.said


class Opener:
    """A child process that opens files; a new one where the last has died."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def open(self, kind: str, path: Path) -> Opened:
        """What became of the file or folder at ``path``, opened as a ``kind``."""
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "OMP_NUM_THREADS": "1",
                    "ARROW_DEFAULT_MEMORY_POOL": "system",
                },
            )
            if self._answer(_START) is None:
                # Its answer must not be taken for that to another question.
                self.close()
                raise AssertionError("the child cannot start")
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self._child.stdin.flush()
        answer = self._answer()
        if answer is None:
            code = self._child.poll()
            self.close()
            what = "nothing was said for a minute" if code is None else f"the process ended ({code})"
            return Opened("", what, 0.0, 0)
        return Opened(**answer)

    def _answer(self, patience: float = _PATIENCE) -> dict[str, Any] | None:
        assert self._child is not None
        assert self._child.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._child.stdout, selectors.EVENT_READ)
            if not waiting.select(patience):
                return None
        line = self._child.stdout.readline()
        if not line:
            self._child.wait()
        return json.loads(line) if line else None

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
        self._child = None


@cache
def shared() -> Opener:
    """The one opener of a test process: starting a child takes seconds."""
    opener = Opener()
    atexit.register(opener.close)
    return opener


def refusal(kind: str, path: Path) -> str:
    """What a file or folder is refused with, empty where it was of use, after making sure that it did no harm."""
    size = path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*"))
    return shared().open(kind, path).check(size)


# The child -----------------------------------------------------------------------------------------------------------


#: What opens a file or folder of a kind.
KINDS: dict[str, Callable[[Path], object]] = {
    "data": lambda path: data.load(str(path)),
    "preview": lambda path: read_table(path).preview(5),
    "mask": lambda path: read_mask(path, layers=6, heads=12),
    "comparison": lambda path: read_upload(path.name, path.read_bytes()),
    "identify": lambda path: models.identify(str(path)),
    "model": lambda path: load_model(models.identify(str(path)), device_name="cpu"),
}


def _resident(which: str) -> int:
    """``VmRSS`` (now), ``VmHWM`` (the most since it was reset) or ``VmSize`` (all that is mapped), in bytes."""
    with Path("/proc/self/status").open() as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(which))


def _opened(kind: str, path: Path) -> Opened:
    # Forget the most that was resident so far.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _resident("VmRSS"), time.process_time()
    said = crash = ""
    try:
        KINDS[kind](path)
    except CahpError as error:
        said = str(error)
    except BaseException:
        crash = traceback.format_exc()
    return Opened(said, crash, time.process_time() - start, _resident("VmHWM") - before)


def _serve() -> None:
    import warnings

    warnings.simplefilter("ignore")
    # What opens files is loaded before memory is counted.
    import datasets
    import pyarrow.parquet
    import torch
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    pyarrow.set_cpu_count(1)
    answers = os.fdopen(os.dup(1), "w")
    # Whatever a library prints is no answer.
    os.dup2(2, 1)
    # What is mapped of libraries counts too, but takes no memory: a build of PyTorch for GPUs maps three gigabytes.
    room = max(ADDRESS_SPACE, _resident("VmSize") + ADDRESS_SPACE // 2)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin:
        kind, path = json.loads(line)
        answers.write(json.dumps(vars(_opened(kind, Path(path)))) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
