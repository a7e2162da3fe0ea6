"""Progress on stderr: one bar per stage with the time left, or a line every tenth away from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from cahp import hub
from cahp import processes as parallel
from cahp.run.timeline import in_terminal
from cahp.terminal.printing import epoch_line
from cahp.values import Cancelled
from cahp.words import duration

if TYPE_CHECKING:
    from cahp.models.training import Training


class Bars(Protocol):
    """A place to draw bars, with the methods of ``rich.progress.Progress``: one bar per task."""

    def start(self) -> None:
        """Begin to draw; does nothing the second time."""

    def add_task(self, description: str, *, total: float) -> Any:
        """Add a bar of ``total`` units; returns its name for ``update``."""

    def update(
        self,
        task: Any,
        /,
        *,
        total: float | None = None,
        completed: float | None = None,
        description: str | None = None,
    ) -> None:
        """Change a bar."""


class Reporter:
    """A progress callback that also follows a training and writes lines; without arguments it shows nothing."""

    def __init__(self, bars: Bars | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        self._bars, self.say = bars, say
        self._tasks: dict[str, Any] = {}
        self._epochs = 0
        self.trained = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""
        if self._bars is not None:
            self._bars.update(self._task(stage, total), completed=done, total=total)

    def watch(self, training: Training) -> None:
        """Show the loss beside the bar, and each finished epoch in a line of its own."""
        self.trained = True
        if self._bars is not None:
            name = f"{in_terminal(training.stage)}, loss {training.loss:.3f}"
            self._bars.update(self._task(training.stage, training.total), description=name)
        for epoch in training.epochs[self._epochs :]:
            self.say(epoch_line(epoch.epoch, epoch.loss, epoch.accuracy, taught=training.stage == "distill"))
        self._epochs = len(training.epochs)

    def _task(self, stage: str, total: int) -> Any:
        if stage not in self._tasks:
            assert self._bars is not None
            self._bars.start()
            self._tasks[stage] = self._bars.add_task(in_terminal(stage), total=total)
        return self._tasks[stage]


class LineReporter(Reporter):
    """Writes a line to stderr for every tenth of a stage, for logs of long work."""

    def __init__(self) -> None:
        super().__init__(say=lambda line: _print(f"cahp: {line}"))
        self._start: float | None = None
        self._tenths = self._done = 0
        self._stage: tuple[str, int] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""
        if self._stage != (stage, total) or done < self._done:
            self._stage, self._start, self._tenths = (stage, total), None, 0
        self._done = done
        self._start = monotonic() if self._start is None else self._start
        tenths = 10 * done // max(1, total)
        if tenths > self._tenths:
            self._tenths = tenths
            left = (monotonic() - self._start) * (total - done) / max(1, done)
            rest = "" if tenths == 10 else f", {duration(left)} left"
            self.say(f"{tenths * 10} % done{rest}")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def bars(*, quiet: bool, lines: bool = False) -> Iterator[Reporter]:
    """A reporter that draws bars on stderr while the block runs; nothing when quiet.

    Away from a terminal it writes finished epochs alone, or with ``lines`` every tenth. Only the first of several
    processes reports.
    """
    if quiet or not parallel.first():
        yield Reporter()
        return
    with _reporter(lines) as reporter, hub.progress_to(reporter):
        try:
            yield reporter
        except (KeyboardInterrupt, Cancelled):
            if reporter.trained:
                reporter.say("  the same command (without --no-cache) resumes from here")
            raise


@contextmanager
def _reporter(lines: bool) -> Iterator[Reporter]:
    if not sys.stderr.isatty():
        yield LineReporter() if lines else Reporter(say=_print)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    drawn = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    try:
        # Drawing begins with the first report: a bar that is redrawn all the time would overwrite a question.
        yield Reporter(drawn, lambda line: drawn.console.print(line, highlight=False, markup=False))
    finally:
        drawn.stop()
