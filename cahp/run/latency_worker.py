"""A process that measures latency, one model at a time.

Threads of a busy server wait for Python's lock, and a timing in the same process would include that waiting.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np

from cahp import models
from cahp.cards import Prompt
from cahp.costs import LATENCY_SECONDS, Costs
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
    """A process that times one model cut to masks; it starts with the first request and ends with the block."""

    def __init__(self, model: str, *, device: str, store: Store, prompt: Prompt | None = None) -> None:
        prompt_json = json.dumps(None if prompt is None else asdict(prompt))
        self._command = [sys.executable, "-m", __name__, model, device, str(store.folder.parent), prompt_json]
        self._process: subprocess.Popen[str] | None = None
        self._responses: queue.SimpleQueue[str] = queue.SimpleQueue()

    @classmethod
    def of(cls, bench: Bench) -> LatencyWorker:
        """A worker for the model of a bench, with the same store."""
        settings = bench.settings
        return cls(settings.model, device=settings.device, store=bench.resources.store, prompt=bench.card.prompt)

    def __enter__(self) -> LatencyWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    assert pipe is not None
                    pipe.close()

    def costs(
        self,
        mask: HeadMask,
        *,
        length: int,
        seconds: float = LATENCY_SECONDS,
        fresh: bool = False,
        progress: Progress = silent,
    ) -> Costs:
        """Do what ``Measurements.costs`` does, in the other process.

        Raises:
            CahpError: If the process cannot measure it, or has ended.
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        request = {"keep": mask.keep.astype(int).tolist(), "length": length, "seconds": seconds, "fresh": fresh}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise CahpError("the process that measures latency has ended; start the measurement again") from None
        while True:
            progress("latency", 0, 1)
            with contextlib.suppress(queue.Empty):
                line = self._responses.get(timeout=_POLL_S)
                break
        if not line:
            # The next request must not wait for a response either.
            self._responses.put("")
            raise CahpError("the process that measures latency has ended; start the measurement again")
        response = json.loads(line)
        if "error" in response:
            raise CahpError(response["error"])
        return costs_from_json(response)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self._process.stdout is not None
        threading.Thread(target=_listen, args=(self._process.stdout, self._responses), daemon=True).start()


def _listen(pipe: IO[str], responses: queue.SimpleQueue[str]) -> None:
    # An empty line tells that the pipe is closed and no response will follow.
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            responses.put(line)
    responses.put("")


def _serve(model: str, device: str, cache: str, prompt_json: str, requests: IO[str], responses: IO[str]) -> None:
    measurements: Measurements | None = None
    content = json.loads(prompt_json)
    for line in requests:
        request = json.loads(line)
        try:
            if measurements is None:
                card = models.identify(model, prompt=None if content is None else Prompt(**content))
                measurements = Measurements(Resources(card, store=Store(Path(cache)), device=device))
            mask = HeadMask(np.array(request.pop("keep"), dtype=np.bool_))
            response = asdict(measurements.costs(mask, **request))
        except CahpError as error:
            response = {"error": str(error)}
        responses.write(json.dumps(response) + "\n")
        responses.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.stdin, sys.stdout)
