"""Redundancy in six small steps."""

from cahp.ui import learn_view, shell

explorer = shell.page("Learn")
shell.need_run(explorer)
learn_view.draw(explorer)
