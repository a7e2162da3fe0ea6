"""Progress on stderr: one bar a stage, with the time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from cahp import hub
from cahp import processes as parallel
from cahp.run.timeline import in_terminal
from cahp.terminal.printing import epoch_line
from cahp.values import Cancelled

if TYPE_CHECKING:
    from cahp.models.training import Training


class Bars(Protocol):
    """Where bars are drawn, as Rich draws them: one a task."""

    def start(self) -> None:
        """Begin to draw; nothing, if that was begun."""

    def add_task(self, description: str, *, total: float) -> Any:
        """A new bar of ``total`` units; what ``update`` calls it."""

    def update(
        self,
        task: Any,
        /,
        *,
        total: float | None = None,
        completed: float | None = None,
        description: str | None = None,
    ) -> None:
        """Change what a bar says."""


class Reporter:
    """A progress callback, and one that sees a training."""

    def __init__(self, bars: Bars | None, say: Callable[[str], None]) -> None:
        self._bars, self.say = bars, say
        self._tasks: dict[str, Any] = {}
        self._said = 0
        self.trained = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""
        if self._bars is not None:
            self._bars.update(self._task(stage, total), completed=done, total=total)

    def watch(self, training: Training) -> None:
        """Report the loss beside the bar, and every epoch that is over in a line of its own."""
        self.trained = True
        if self._bars is not None:
            name = f"{in_terminal(training.stage)}, loss {training.loss:.3f}"
            self._bars.update(self._task(training.stage, training.total), description=name)
        for epoch in training.epochs[self._said :]:
            self.say(epoch_line(epoch.epoch, epoch.loss, epoch.accuracy, taught=training.stage == "distill"))
        self._said = len(training.epochs)

    def _task(self, stage: str, total: int) -> Any:
        if stage not in self._tasks:
            assert self._bars is not None
            self._bars.start()
            self._tasks[stage] = self._bars.add_task(in_terminal(stage), total=total)
        return self._tasks[stage]


@contextmanager
def bars(*, quiet: bool) -> Iterator[Reporter]:
    """A reporter that draws bars on stderr while the block runs: none away from a terminal, nothing at all when quiet.

    Only the first of several processes reports.
    """
    if quiet or not parallel.first():
        yield Reporter(None, lambda _: None)
        return
    with _reporter() as reporter, hub.progress_to(reporter):
        try:
            yield reporter
        except (KeyboardInterrupt, Cancelled):
            if reporter.trained:
                reporter.say("  the same command (without --no-cache) goes on from here")
            raise


@contextmanager
def _reporter() -> Iterator[Reporter]:
    if not sys.stderr.isatty():
        yield Reporter(None, lambda line: print(line, file=sys.stderr, flush=True))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    drawn = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    try:
        # Begins with the first report: bars that are drawn again and again would run over a question.
        yield Reporter(drawn, lambda line: drawn.console.print(line, highlight=False, markup=False))
    finally:
        drawn.stop()
