"""How far a call is: bars in a notebook's cell or in an interactive terminal, by themselves; nothing in a script."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cahp import hub
from cahp import processes as parallel
from cahp.api.cell import CellBars, in_notebook
from cahp.terminal.progress import Reporter, bars
from cahp.values import Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch

#: Whether progress is shown (None: where a person is waiting), or what it is told to instead.
Followed = bool | Progress | None


class Interrupted(KeyboardInterrupt):
    """A person stopped the call; what was measured by then is kept, and the same call goes on from there."""

    def __init__(self) -> None:
        super().__init__("stopped; what was measured is kept, and the same call goes on from there")

    def _render_traceback_(self) -> list[str]:
        # Jupyter asks for this: where in our code it stopped is of no interest to whoever pressed the button.
        return [str(self)]


@dataclass(frozen=True)
class Follow:
    """What a call tells its progress to: every stage, trainings, and lines of their own."""

    progress: Progress
    watch: Watch | None = None
    say: Callable[[str], None] = lambda _: None


@contextmanager
def following(progress: Followed, *, yes: bool = False) -> Iterator[Follow]:
    """Show how far the block is; ``yes`` agrees to what is large being fetched from the hub.

    None shows bars in a notebook and in an interactive terminal, True also in a script; False shows nothing. A callable
    is told instead.

    Raises:
        Interrupted: If a person stops the block where its progress is shown.
    """
    with _follow(progress) as follow, hub.progress_to(follow.progress), hub.consent_from(lambda *_: yes):
        yield follow


@contextmanager
def _follow(progress: Followed) -> Iterator[Follow]:
    if callable(progress):
        yield Follow(progress)
        return
    if progress is False or (progress is None and not (in_notebook() or _interactive())):
        yield Follow(silent)
        return
    with _bars() as reporter:
        try:
            yield Follow(reporter, reporter.watch, reporter.say)
        except KeyboardInterrupt:
            raise Interrupted from None


def _interactive() -> bool:
    """Whether somebody types into this Python."""
    return (hasattr(sys, "ps1") or bool(sys.flags.interactive)) and sys.stderr.isatty()


@contextmanager
def _bars() -> Iterator[Reporter]:
    if in_notebook() and parallel.first():
        with CellBars() as drawn:
            yield Reporter(drawn, drawn.say)
        return
    with bars(quiet=False) as reporter:
        yield reporter
