"""The budget board: the heads that a budget keeps, with accuracy and time, while the slider is dragged.

All hosts share one core: ``core/`` is an ES module that draws a board from plain data (``core/board.js`` tells how to
mount it). ``contents`` makes its data and joins its files to one script; ``state`` has the mask on a board, without any
picture. The hosts are the explorer (``cahp.ui.parts.budget_board``), a notebook, and a report.
"""

from cahp.board.contents import BoardSubject, Event, FirstScreen, Host, Shown, Steps, contents, script, style

__all__ = ["BoardSubject", "Event", "FirstScreen", "Host", "Shown", "Steps", "contents", "script", "style"]
