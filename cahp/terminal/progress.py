"""Progress of a call: a bar per stage with the time left, or a line every tenth away from a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from cahp import hub
from cahp.run.resources import on_screen
from cahp.values import Cancelled, JsonObject, Progress, silent
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

    ``draws`` shows bars, in a notebook's cell or on stderr; ``say`` is called with lines, with ``tenths`` for every
    tenth of a stage; ``forward`` is called with all reports.
    """

    def __init__(
        self,
        *,
        draws: bool = False,
        tenths: bool = False,
        say: Callable[[str], None] = lambda _: None,
        forward: Progress = silent,
    ) -> None:
        self.say = say
        self._draws = draws
        self._tenths = tenths
        self._forward = forward
        self._bars: JsonObject = {}
        self._epochs = 0
        #: The stage that is reported, when it began, and how much of it was done.
        self._stage = ("", 0.0, 0)
        self.trained = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` units of ``stage``."""
        self._forward(stage, done, total)
        if self._tenths:
            self._say_tenth(stage, done, total)
        if self._draws:
            bar = self._bar(stage, total)
            if bar.total != total or done < bar.n:
                bar.reset(total)
            bar.update(done - bar.n)
            if done >= total:
                self._bars.pop(stage).close()

    def _say_tenth(self, stage: str, done: int, total: int) -> None:
        before, start, last = self._stage
        if before != stage or done < last:
            start = monotonic()
            last = 0
        self._stage = (stage, start, done)
        tenth = 10 * done // max(1, total)
        if tenth > 10 * last // max(1, total):
            left = duration((monotonic() - start) * (total - done) / max(1, done))
            self.say(f"cahp: {tenth * 10} % done, {left} left")

    def watch(self, training: Training) -> None:
        """Show the loss beside the bar, and each finished epoch in a line of its own."""
        self.trained = True
        if self._draws:
            label = f"{on_screen(training.stage)}, loss {training.loss:.3f}"
            self._bar(training.stage, training.total).set_description(label, refresh=False)
        for epoch in training.epochs[self._epochs :]:
            line = f"  epoch {epoch.epoch:>2}  loss {epoch.loss:.3f}"
            if epoch.accuracy is not None:
                line += f", {percent(epoch.accuracy)} right on held-out texts"
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
    reporter = Reporter(draws=draws, tenths=lines and not draws, say=print_line)
    with hub.progress_to(reporter):
        try:
            yield reporter
        except (KeyboardInterrupt, Cancelled):
            if reporter.trained:
                reporter.say("  the same command (without --no-cache) resumes from here")
            raise
        finally:
            reporter.close()
