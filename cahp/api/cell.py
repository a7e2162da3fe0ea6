"""A notebook's cell: whether there is one, and bars in its output."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from html import escape
from time import monotonic
from types import TracebackType
from typing import Any

from cahp.words import duration

#: Seconds between two drawings: a page that is drawn more often only flickers.
_PAUSE = 0.1


def in_notebook() -> bool:
    """Whether a kernel runs this, whose outputs are pages and not a terminal's lines."""
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
        """The bar with its words."""
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
    """Bars in the output of the cell that runs, one a task; they are gone when the block ends."""

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
        """Begin to draw; a call that has nothing to wait for leaves no output."""
        from IPython.display import display

        if self._handle is None:
            self._handle = display(_bundle(""), raw=True, display_id=True)

    def add_task(self, description: str, *, total: float) -> int:
        """Draw a bar of ``total`` units; its number."""
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
        """Change what a bar says."""
        row = self._rows[task]
        row.total = row.total if total is None else total
        row.completed = row.completed if completed is None else completed
        row.description = description or row.description
        self._draw(now=row.completed >= row.total)

    def say(self, line: str) -> None:
        """Write a line under the bars."""
        self.start()
        self._lines.append(line)
        self._draw(now=True)

    def _draw(self, *, now: bool) -> None:
        if not now and monotonic() - self._drawn < _PAUSE:
            return
        self._drawn = monotonic()
        said = "".join(f"<div>{escape(line)}</div>" for line in self._lines)
        self._handle.update(_bundle("".join(row.html for row in self._rows) + said), raw=True)


def _bundle(inner: str) -> dict[str, str]:
    return {"text/html": inner, "text/plain": ""}
