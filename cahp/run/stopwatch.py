"""Latency measured in a process of its own, one model at a time.

Threads of a busy server take turns at Python's lock, and a timing in between them would time the turns too.
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
    # The process reads no data, and starts sooner without what does.
    from cahp.run.bench import Bench

#: Seconds between two looks at whether to stop.
_PATIENCE = 0.1


class Stopwatch:
    """A process that times one model cut to masks; it starts with the first question and ends with the block."""

    def __init__(self, model: str, *, device: str, store: Store, prompt: Prompt | None = None) -> None:
        said = json.dumps(None if prompt is None else asdict(prompt))
        self._command = [sys.executable, "-m", __name__, model, device, str(store.folder.parent), said]
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    @classmethod
    def of(cls, bench: Bench) -> Stopwatch:
        """A process that times the model of a bench, and keeps what it finds where the bench does."""
        settings = bench.settings
        return cls(settings.model, device=settings.device, store=bench.resources.store, prompt=bench.card.prompt)

    def __enter__(self) -> Stopwatch:
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
        """What ``Measurements.costs`` says; found in the store if it was measured before, unless ``fresh``.

        Raises:
            CahpError: If the process cannot measure it.
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        question = {"keep": mask.keep.astype(int).tolist(), "length": length, "seconds": seconds, "fresh": fresh}
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise CahpError("the process that measures latency has ended; start the measurement again") from None
        while True:
            progress("latency", 0, 1)
            with contextlib.suppress(queue.Empty):
                line = self._answers.get(timeout=_PATIENCE)
                break
        if not line:
            # The next question must not wait for an answer either.
            self._answers.put("")
            raise CahpError("the process that measures latency has ended; start the measurement again")
        answer = json.loads(line)
        if "error" in answer:
            raise CahpError(answer["error"])
        return costs_from_json(answer)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert self._process.stdout is not None
        threading.Thread(target=_listen, args=(self._process.stdout, self._answers), daemon=True).start()


def _listen(pipe: IO[str], answers: queue.SimpleQueue[str]) -> None:
    # A closed pipe ends the process's last words, and then an empty line says that there will be none.
    with contextlib.suppress(ValueError, OSError):
        for line in pipe:
            answers.put(line)
    answers.put("")


def _serve(model: str, device: str, cache: str, said: str, questions: IO[str], answers: IO[str]) -> None:
    measurements: Measurements | None = None
    prompt = None if (found := json.loads(said)) is None else Prompt(**found)
    for line in questions:
        asked = json.loads(line)
        try:
            if measurements is None:
                store = Store(Path(cache))
                card = models.identify(model, prompt=prompt)
                measurements = Measurements(Resources(card, store=store, device=device))
            mask = HeadMask(np.array(asked["keep"], dtype=np.bool_))
            asked_of = {name: asked[name] for name in ("length", "seconds", "fresh")}
            answer = asdict(measurements.costs(mask, **asked_of))
        except CahpError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.stdin, sys.stdout)
