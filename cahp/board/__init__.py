"""The budget board: which heads a budget keeps, how they answer and what time they take, while it is dragged.

One core for all hosts. ``core/`` is an ES module that draws a board from plain data and knows nobody around it
(``core/board.js`` says how it is mounted); here its data are made, and its files are put together as one script.
``state`` is what a person has put on a board, without any picture. The hosts are thin: the explorer
(``cahp.ui.parts.budget_board``), a notebook, and a report.
"""

from cahp.board.contents import Event, Shown, contents
from cahp.board.script import script, style

__all__ = ["Event", "Shown", "contents", "script", "style"]
