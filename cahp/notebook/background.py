"""One piece of work at a time, in a thread of the kernel: cells go on, it says how far it is, and can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from cahp.run.timeline import on_screen
from cahp.values import CahpError, Cancelled, Progress


@dataclass(frozen=True)
class Doing:
    """How far the work is: what it does, and how much of it is done; or why it ended, if it failed."""

    stage: str = ""
    done: int = 0
    total: int = 0
    error: str = ""

    @property
    def running(self) -> bool:
        """Whether there is work."""
        return bool(self.stage)


class Background:
    """A thread that does what was asked for last; ``told`` hears how far it is, in that thread."""

    def __init__(self, told: Callable[[Doing], None]) -> None:
        self._told = told
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, work: Callable[[Progress], None]) -> None:
        """Do this as soon as what is under way has stopped; it is stopped now."""
        self._stop.set()
        before, self._stop = self._thread, threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work, self._stop, before), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop what is under way; what it measured by then is kept."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is under way; whether that came true in time."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _run(self, work: Callable[[Progress], None], stop: threading.Event, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()

        def progress(stage: str, done: int, total: int) -> None:
            if stop.is_set():
                raise Cancelled
            self._told(Doing(on_screen(stage), done, total))

        error = "the measurement failed; the kernel's log says why"
        try:
            progress("load", 0, 1)
            work(progress)
            error = ""
        except Cancelled:
            error = ""
        except CahpError as found:
            error = str(found)
        finally:
            if stop is self._stop:
                self._told(Doing(error=error))
