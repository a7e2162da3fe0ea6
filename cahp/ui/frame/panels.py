"""What features bring to the pages: tabs and claims, and colourings of the board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from cahp.board.colourings import Colouring
    from cahp.ui.session.explorer import Explorer
    from cahp.ui.session.jobs import Job

F = TypeVar("F")


@dataclass(frozen=True)
class Panel:
    """A part of a ``page`` that is drawn where it is chosen: a tab with a ``label``, or a claim.

    ``draw`` takes what the page passes to its panels. Panels stand in the order of their ``place``; ``name`` is theirs
    in links (empty: no link opens it). ``before_run`` draws what is shown before there is a run, ``tool`` a button of
    the page's toolbar.
    """

    page: str
    label: str
    draw: Callable[..., None]
    place: int
    name: str = ""
    before_run: Callable[[Explorer], None] | None = None
    tool: Callable[[Explorer], None] | None = None


@dataclass(frozen=True)
class BoardColouring(Generic[F]):
    """A colouring that the explorer's board offers: what is known of it, how it is asked for, and its job.

    ``know`` returns its facts (None: not measured, or not asked for), ``ask`` measures or shows them, ``find_job``
    returns the job that measures them (None: none), and ``is_offered`` tells whether the board offers it.
    """

    colouring: Colouring[F]
    know: Callable[[Explorer], F | None]
    ask: Callable[[Explorer], object]
    find_job: Callable[[Explorer], Job[Any] | None]
    is_offered: Callable[[Explorer], bool] = lambda _: True
