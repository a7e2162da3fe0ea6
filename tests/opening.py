"""Opens files as the program does, in a child process that has two gigabytes, and says what each of them cost.

Time is the child's processor time, so that a busy machine fails nothing; memory is the most that was resident above
what was before.
"""

import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cahp import data, models
from cahp.comparison.result import read_upload
from cahp.data.tables import read_table
from cahp.exports.masks import read_mask
from cahp.models.loading import load_model
from cahp.values import CahpError

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


@cache
def _child() -> ProcessPoolExecutor:
    """The one process that opens the files of a test process: starting it takes seconds."""
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare)
    pool.submit(os.getpid).result(_START)
    return pool


def refusal(kind: str, path: Path) -> str:
    """What a file or folder is refused with, empty where it was of use, after making sure that it did no harm."""
    size = path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*"))
    child = _child()
    try:
        opened = child.submit(_opened, kind, path).result(_PATIENCE)
    except (BrokenProcessPool, TimeoutError) as error:
        # It may hang, and its answer must not be taken for that to another question.
        for process in multiprocessing.active_children():
            process.kill()
        _child.cache_clear()
        opened = Opened("", repr(error), 0.0, 0)
    return opened.check(size)


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


def _prepare() -> None:
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
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    # What is mapped of libraries counts too, but takes no memory: a build of PyTorch for GPUs maps three gigabytes.
    room = max(ADDRESS_SPACE, _resident("VmSize") + ADDRESS_SPACE // 2)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
