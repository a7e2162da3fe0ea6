"""A process that measures latency, one model at a time.

Threads of a busy server wait for Python's lock, and a timing in the same process would include that waiting.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from cahp import models
from cahp.models.cards import Prompt
from cahp.models.costs import Costs
from cahp.run.measurements import Measurements, costs_from_json
from cahp.run.resources import Resources
from cahp.store import Store
from cahp.values import CahpError, HeadMask, Progress, silent

if TYPE_CHECKING:
    # The process reads no data, and starts sooner without the modules that do.
    from cahp.run.bench import Bench

#: Seconds between two checks for cancellation.
_POLL_S = 0.1


class LatencyWorker:
    """A process that times a bench's model cut to masks; it starts with the first request and ends with the block."""

    def __init__(self, bench: Bench) -> None:
        prompt = None
        if bench.card.prompt is not None:
            prompt = asdict(bench.card.prompt)
        cache = str(bench.resources.store.folder.parent)
        length = json.dumps(bench.card.max_length)
        self._bench = bench
        self._command = [
            *(sys.executable, "-m", __name__),
            *(bench.settings.model, bench.settings.device, cache, json.dumps(prompt), bench.card.dtype, length),
        ]
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


def _serve(arguments: Sequence[str], requests: IO[str], responses: IO[str]) -> None:
    """Answer the lines of ``requests``; the ``arguments`` are those with which the process was started."""
    model, device, cache, prompt_json, dtype, length = arguments
    measurements: Measurements | None = None
    prompt = json.loads(prompt_json)
    if prompt is not None:
        prompt = Prompt(**prompt)
    for line in requests:
        request = json.loads(line)
        try:
            if measurements is None:
                card = models.identify(model, prompt=prompt)
                card = models.set_dtype(card, dtype)  # type: ignore[arg-type]
                card = models.set_max_length(card, json.loads(length))
                measurements = Measurements(Resources(card, store=Store(Path(cache)), device=device))
            mask = HeadMask(np.array(request.pop("keep"), dtype=np.bool_))
            response = asdict(measurements.costs(mask, **request))
        except CahpError as error:
            response = {"error": str(error)}
        responses.write(json.dumps(response) + "\n")
        responses.flush()


if __name__ == "__main__":
    _serve(sys.argv[1:7], sys.stdin, sys.stdout)
