"""Redundancy in six small steps."""

from cahp.ui import learn as learn_view
from cahp.ui.frame import page as shell

explorer = shell.page("Learn")
shell.need_run(explorer)
learn_view.draw(explorer)
