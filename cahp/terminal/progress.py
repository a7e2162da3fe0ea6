"""Progress of a call: a bar per stage with the time left, or a line every tenth away from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from cahp import hub
from cahp.recoveries import RECOVERIES
from cahp.run.resources import on_screen
from cahp.values import Cancelled, Progress, silent
from cahp.words import duration, percent

if TYPE_CHECKING:
    from cahp.models.training import Training


def print_line(line: str) -> None:
    """Write a line to stderr, above the bars if there are any."""
    from tqdm.auto import tqdm

    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()


class Reporter:
    """A progress callback that also follows a training and writes lines; by default it shows nothing.

    ``draws`` shows bars, in a notebook's cell or on stderr; ``say`` is called with lines, ``forward`` with all reports.
    """

    def __init__(
        self, *, draws: bool = False, say: Callable[[str], None] = lambda _: None, forward: Progress = silent
    ) -> None:
        self.say = say
        self._draws = draws
        self._forward = forward
        self._bars: dict[str, Any] = {}
        self._epochs = 0
        self.trained = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""
        self._forward(stage, done, total)
        if not self._draws:
            return
        bar = self._bar(stage, total)
        if bar.total != total or done < bar.n:
            bar.reset(total)
        bar.update(done - bar.n)
        if done >= total:
            self._bars.pop(stage).close()

    def watch(self, training: Training) -> None:
        """Show the loss beside the bar, and each finished epoch in a line of its own."""
        self.trained = True
        if self._draws:
            label = f"{on_screen(training.stage)}, loss {training.loss:.3f}"
            self._bar(training.stage, training.total).set_description(label, refresh=False)
        recovery = RECOVERIES.get(training.stage)
        score = "accuracy"
        if recovery is not None and recovery.imitates:
            score = "agreement"
        for epoch in training.epochs[self._epochs :]:
            line = f"  epoch {epoch.epoch:>2}  loss {epoch.loss:.3f}"
            if epoch.accuracy is not None:
                line += f", {score} {percent(epoch.accuracy)} on held-out texts"
            self.say(line)
        self._epochs = len(training.epochs)

    def close(self) -> None:
        """Remove the bars."""
        while self._bars:
            self._bars.popitem()[1].close()

    def _bar(self, stage: str, total: int) -> Any:
        # A bar begins with its first report: drawn earlier it would overwrite a question.
        if stage not in self._bars:
            from tqdm.auto import tqdm

            layout = "{desc:<31} {bar} {percentage:3.0f} %, {remaining} left"
            self._bars[stage] = tqdm(desc=on_screen(stage), total=total, leave=False, bar_format=layout)
        return self._bars[stage]


class LineReporter(Reporter):
    """Writes a line to stderr for every tenth of a stage, for logs of long work."""

    def __init__(self) -> None:
        super().__init__(say=lambda line: print_line(f"cahp: {line}"))
        self._start = 0.0
        self._tenths = self._done = 0
        self._stage: tuple[str, int] | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""
        if self._stage != (stage, total) or done < self._done:
            self._stage = (stage, total)
            self._start = monotonic()
            self._tenths = 0
        self._done = done
        tenths = 10 * done // max(1, total)
        if tenths > self._tenths:
            self._tenths = tenths
            left = (monotonic() - self._start) * (total - done) / max(1, done)
            line = f"{tenths * 10} % done"
            if tenths < 10:
                line += f", {duration(left)} left"
            self.say(line)


@contextmanager
def bars(*, quiet: bool, lines: bool = False, draws: bool | None = None) -> Iterator[Reporter]:
    """A reporter that draws bars while the block runs; nothing when quiet.

    Away from a terminal (unless it ``draws``) it writes finished epochs alone, or with ``lines`` every tenth.
    """
    if quiet:
        yield Reporter()
        return
    if draws is None:
        draws = sys.stderr.isatty()
    reporter = Reporter(draws=draws, say=print_line)
    if lines and not draws:
        reporter = LineReporter()
    with hub.progress_to(reporter):
        try:
            yield reporter
        except (KeyboardInterrupt, Cancelled):
            if reporter.trained:
                reporter.say("  the same command (without --no-cache) resumes from here")
            raise
        finally:
            reporter.close()
