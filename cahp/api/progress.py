"""The progress of a call: bars in a notebook's cell or in an interactive terminal; nothing in a script."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cahp import hub
from cahp.terminal.progress import Reporter, bars
from cahp.values import Progress

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
    with hub.consent_from(lambda *_: yes):
        if callable(progress):
            with hub.progress_to(progress):
                yield _Forwarding(progress)
            return
        # A person types into this Python.
        interactive = (hasattr(sys, "ps1") or bool(sys.flags.interactive)) and sys.stderr.isatty()
        shown = in_notebook() or interactive if progress is None else progress
        try:
            with bars(quiet=not shown, draws=True if in_notebook() else None) as reporter:
                yield reporter
        except KeyboardInterrupt:
            if shown:
                raise Interrupted from None
            raise


class _Forwarding(Reporter):
    """Calls a function of the caller's."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._progress(stage, done, total)


def in_notebook() -> bool:
    """Whether this runs in a kernel, whose outputs are pages and not a terminal's lines."""
    shell = sys.modules.get("IPython")
    running = None if shell is None else shell.get_ipython()
    return getattr(running, "kernel", None) is not None
