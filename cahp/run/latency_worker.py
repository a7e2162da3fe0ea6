"""A process that measures latency, one model at a time.

Threads of a busy server wait for Python's lock, and a timing in the same process would include that waiting.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from cahp import models
from cahp.models.cards import Costs, Dtype, Prompt
from cahp.run.measurements import Measurements, costs_from_json
from cahp.run.resources import Resources
from cahp.store import Store
from cahp.values import CahpError, HeadMask, ModelError, Progress, silent

if TYPE_CHECKING:
    # The process reads no data, and starts sooner without the modules that do.
    from cahp.run.bench import Bench

#: Seconds between two checks for cancellation.
_POLL_S = 0.1


class LatencyWorker:
    """A process that times a bench's model cut to masks; it starts with the first request and ends with the block."""

    def __init__(self, bench: Bench) -> None:
        card = bench.card
        prompt = None
        if card.prompt is not None:
            prompt = asdict(card.prompt)
        name = bench.settings.model
        if card.folder:
            # With its commit: the hub is not asked again, where it may have another one now.
            name = models.name_of(card)
        self._bench = bench
        self._command = [sys.executable, "-m", __name__]
        # In a message, because other users can see the command.
        self._opening = {
            "name": name,
            "prompt": prompt,
            "dtype": card.dtype,
            "max_length": card.max_length,
            "sha256": card.sha256,
            "device": bench.settings.device,
            "cache": str(bench.resources.store.folder.parent),
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader = ThreadPoolExecutor(1)

    def __enter__(self) -> LatencyWorker:
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        self._process = None
        if process is not None:
            process.kill()
            # The reader ends with the process; then this waits for the process and closes its pipes.
            self._reader.shutdown()
            process.communicate()

    def costs(self, mask: HeadMask, *, fresh: bool = False, progress: Progress = silent) -> Costs:
        """Do what ``Measurements.costs`` does, in the other process, with the bench's length and time limit.

        Raises:
            CahpError: If the process cannot measure it, or has ended.
        """
        starts = self._process is None
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        size = {"length": self._bench.length, "seconds": self._bench.latency_seconds}
        request = {"keep": mask.keep.astype(int).tolist(), "fresh": fresh, **size}
        line = ""
        with contextlib.suppress(OSError):
            if starts:
                process.stdin.write(json.dumps(self._opening) + "\n")
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            response = self._reader.submit(process.stdout.readline)
            while not wait([response], timeout=_POLL_S).done:
                progress("latency", 0, 1)
            line = response.result()
        if not line:
            raise CahpError("the process that measures latency has ended; start the measurement again")
        content = json.loads(line)
        if "error" in content:
            raise CahpError(content["error"])
        return costs_from_json(content)


def _serve(requests: IO[str], responses: IO[str]) -> None:
    """Answer the lines of ``requests``, the first of which says what is timed."""
    opening = json.loads(requests.readline() or "null")
    measurements: Measurements | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if measurements is None:
                measurements = _open(**opening)
            mask = HeadMask(np.array(request.pop("keep"), dtype=np.bool_))
            response = asdict(measurements.costs(mask, **request))
        except CahpError as error:
            response = {"error": str(error)}
        responses.write(json.dumps(response) + "\n")
        responses.flush()


def _open(
    *,
    name: str,
    prompt: Mapping[str, Any] | None,
    dtype: Dtype,
    max_length: int | None,
    sha256: str,
    device: str,
    cache: str,
) -> Measurements:
    """Open the model that the bench has.

    Raises:
        ModelError: If it is another one now.
    """
    asked = None
    if prompt is not None:
        asked = Prompt(**prompt)
    card = models.set_dtype(models.identify(name, prompt=asked), dtype)
    card = models.set_max_length(card, max_length)
    if card.sha256 != sha256:
        raise ModelError(f"{card.id} was changed since it was opened; open it again")
    return Measurements(Resources(card, store=Store(Path(cache)), device=device))


if __name__ == "__main__":
    _serve(sys.stdin, sys.stdout)
