"""What to keep."""

from cahp.ui import budget_view, shell

explorer = shell.page("Budget")
shell.need_run(explorer)
budget_view.draw(explorer)
