"""What features bring to the pages: tabs, and colourings of the board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cahp.ui.parts.display import problem
from cahp.words import capital

if TYPE_CHECKING:
    from cahp.board.colourings import Colouring
    from cahp.board.sentence import Sentence
    from cahp.run.bench import Bench
    from cahp.ui.session.explorer import Explorer
    from cahp.ui.session.jobs import Job
    from cahp.ui.session.work import Kind

F = TypeVar("F")


@dataclass(frozen=True)
class Panel:
    """A part of a page that is drawn where it is chosen: a tab with a ``label``.

    The table of features names its page. ``Board`` stands for what is drawn below the board on every page that has it,
    ``Budget note`` for a sentence above the tabs of Budget, ``Every page`` for what opens over any page, ``Card`` for a
    section of the card of a head. ``draw`` takes what the page passes to its panels: of a card, the explorer and the
    head. Panels stand in the order of their ``place``; ``name`` is theirs in links
    (empty: no link opens it). ``before_run`` draws what is shown before there is a run, ``tool`` a button of the page's
    toolbar.
    """

    label: str
    draw: Callable[..., None]
    place: int
    name: str = ""
    before_run: Callable[[Explorer], None] | None = None
    tool: Callable[[Explorer], None] | None = None


def broken_panel(feature: str, error: Exception) -> Panel:
    """Return the panel that stands for one of a ``feature`` that cannot be imported, and says why."""
    label = capital(feature.replace("_", " "))
    words = f"{label} cannot be shown: {type(error).__name__}: {error}"
    return Panel(label, lambda *_: problem(words), place=90, name=feature)


@dataclass(frozen=True)
class FirstText:
    """A person's text on the first screen: ``above`` the board, which shows the sentence, or ``below`` it.

    ``above`` draws the line for the text and returns the sentence (None: texts of this model stand below). ``below``
    draws the line and what the model makes of the text (nothing for a model whose texts stand above).
    """

    above: Callable[[Explorer], Sentence | None]
    below: Callable[[Explorer], None]


@dataclass(frozen=True)
class BoardColouring(Generic[F]):
    """A colouring that the explorer's board offers: what is known of it, and the job that measures it.

    ``know`` returns its facts (None: not measured). ``kind`` is the job that measures them when a person asks. Without
    one the board offers facts that are known, and shows them once a person asks: they are large. The first screen of a
    language model opens with one that ``opens``, where its facts are known.
    """

    colouring: Colouring[F]
    know: Callable[[Explorer], F | None]
    kind: Kind[Bench, Any] | None = None
    opens: bool = False

    def find_job(self, explorer: Explorer) -> Job[Any] | None:
        """Return the job that measures the facts (None: there is none)."""
        if self.kind is None:
            return None
        return explorer.work.job(self.kind, explorer.bench)
