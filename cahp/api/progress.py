"""The progress of a call: bars in a notebook's cell or in an interactive terminal; nothing in a script."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from time import monotonic
from types import TracebackType
from typing import Any

from cahp import hub
from cahp import processes as parallel
from cahp.terminal.progress import Reporter, bars
from cahp.values import Progress
from cahp.words import duration

#: Whether progress is shown (None: where a person is waiting), or the function that is called with it instead.
ShowProgress = bool | Progress | None


class Interrupted(KeyboardInterrupt):
    """A person stopped the call; finished measurements are cached, and the same call resumes from there."""

    def __init__(self) -> None:
        super().__init__("stopped; finished measurements are cached, and the same call resumes from there")

    def _render_traceback_(self) -> list[str]:
        # Jupyter calls this: the line of our code does not interest the person who pressed the button.
        return [str(self)]


@contextmanager
def show_progress(progress: ShowProgress, *, yes: bool = False) -> Iterator[Reporter]:
    """Show the progress of the block; ``yes`` agrees to large downloads from the hub.

    None shows bars in a notebook and in an interactive terminal, True also in a script; False shows nothing. A callable
    is called with ``(stage, done, total)`` instead.

    Raises:
        Interrupted: If a person stops the block while its progress is shown.
    """
    if isinstance(progress, Reporter):
        # The command line has drawn its bars and prepared its questions already.
        yield progress
        return
    with _reporter(progress) as reporter, hub.progress_to(reporter), hub.consent_from(lambda *_: yes):
        yield reporter


@contextmanager
def _reporter(progress: ShowProgress) -> Iterator[Reporter]:
    if callable(progress):
        yield _Forwarding(progress)
        return
    if progress is False or (progress is None and not (in_notebook() or _interactive())):
        yield Reporter()
        return
    try:
        if in_notebook() and parallel.first():
            with CellBars() as drawn:
                yield Reporter(drawn, drawn.say)
        else:
            with bars(quiet=False) as reporter:
                yield reporter
    except KeyboardInterrupt:
        raise Interrupted from None


class _Forwarding(Reporter):
    """Calls a function of the caller's."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._progress(stage, done, total)


def _interactive() -> bool:
    """Whether a person types into this Python."""
    return (hasattr(sys, "ps1") or bool(sys.flags.interactive)) and sys.stderr.isatty()


# In a notebook -----------------------------------------------------------------------------------------------

#: Seconds between two drawings: a page that is drawn more often only flickers.
_PAUSE = 0.1


def in_notebook() -> bool:
    """Whether this runs in a kernel, whose outputs are pages and not a terminal's lines."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return getattr(running, "kernel", None) is not None


@dataclass
class _Row:
    """One bar."""

    description: str
    total: float
    start: float
    completed: float = 0.0

    @property
    def html(self) -> str:
        """The bar with its label and the time left."""
        done, total = min(self.completed, self.total), max(self.total, 1e-9)
        left = ""
        if 0 < done < total:
            left = f", {duration((monotonic() - self.start) * (total - done) / done)} left"
        return (
            f'<label style="display:grid;grid-template-columns:14em 14em 1fr;gap:.8em">{escape(self.description)}'
            f'<progress style="width:100%" max="{total}" value="{done}"></progress>'
            f"<span>{100 * done / total:.0f} %{left}</span></label>"
        )


class CellBars:
    """Bars in the output of the current cell, one per task; they disappear when the block ends."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._lines: list[str] = []
        self._drawn = 0.0
        self._handle: Any = None

    def __enter__(self) -> CellBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.update(_bundle(""), raw=True)

    def start(self) -> None:
        """Begin to draw; a call without anything to wait for leaves no output."""
        from IPython.display import display

        if self._handle is None:
            self._handle = display(_bundle(""), raw=True, display_id=True)

    def add_task(self, description: str, *, total: float) -> int:
        """Draw a bar of ``total`` units; returns its number."""
        self._rows.append(_Row(description, total, monotonic()))
        return len(self._rows) - 1

    def update(
        self,
        task: int,
        /,
        *,
        total: float | None = None,
        completed: float | None = None,
        description: str | None = None,
    ) -> None:
        """Change a bar."""
        row = self._rows[task]
        row.total = row.total if total is None else total
        row.completed = row.completed if completed is None else completed
        row.description = description or row.description
        self._draw(now=row.completed >= row.total)

    def say(self, line: str) -> None:
        """Write a line below the bars."""
        self.start()
        self._lines.append(line)
        self._draw(now=True)

    def _draw(self, *, now: bool) -> None:
        if not now and monotonic() - self._drawn < _PAUSE:
            return
        self._drawn = monotonic()
        lines = "".join(f"<div>{escape(line)}</div>" for line in self._lines)
        self._handle.update(_bundle("".join(row.html for row in self._rows) + lines), raw=True)


def _bundle(inner: str) -> dict[str, str]:
    return {"text/html": inner, "text/plain": ""}
