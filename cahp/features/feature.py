"""A feature: the parts that one room brings to the seams of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.cli.command import Alternative, Command
    from cahp.run.sections import Section
    from cahp.ui.frame.panels import BoardColouring, FirstText, Panel


def _bring_nothing() -> Sequence[Any]:
    """Return nothing: the feature has no such part."""
    return ()


@dataclass(frozen=True)
class Feature:
    """The parts of one feature by seam. Each is a function, so that a part is imported when it is first used.

    ``sections`` are fields of ``run.json`` that a run measures, ``commands`` those after ``cahp``, ``evaluations``
    further ways of ``cahp evaluate``, ``panels`` tabs and claims of pages, ``colourings`` those of the board, and
    ``first_texts`` the lines for a person's text on the first screen. Pages are scripts in ``pages/``.
    """

    name: str
    sections: Callable[[], Sequence[Section[Any]]] = _bring_nothing
    commands: Callable[[], Sequence[Command]] = _bring_nothing
    evaluations: Callable[[], Sequence[Alternative]] = _bring_nothing
    panels: Callable[[], Sequence[Panel]] = _bring_nothing
    colourings: Callable[[], Sequence[BoardColouring[Any]]] = _bring_nothing
    first_texts: Callable[[], Sequence[FirstText]] = _bring_nothing
