"""Commands in processes that need no second to begin: everything is imported before they are forked."""

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["pytest", "torch", "cahp.cli", "cahp.api.export", "cahp.comparison.running", "cahp.models.saving"]
)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal), and the seconds that it lived."""

    code: int | None
    seconds: float


def run(words: Sequence[object], *, cache: Path, place: Path, kill_after: float | None = None) -> Ended:
    """Run a command to its end, or for some seconds and then ``kill -9``; ``place`` is for temporary files."""
    started = time.monotonic()
    child = _CONTEXT.Process(target=_live, args=([str(word) for word in words], str(cache), str(place)))
    child.start()
    child.join(kill_after)
    child.kill()
    child.join()
    return Ended(child.exitcode, time.monotonic() - started)


def _live(words: list[str], cache: str, place: str) -> None:
    import torch

    from cahp import cli

    torch.set_num_threads(1)
    os.environ |= {"CAHP_CACHE": cache, "TMPDIR": place}
    tempfile.tempdir = None
    with Path(place, "said.txt").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.exit(cli.run(words))
