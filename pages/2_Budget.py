"""What to keep."""

from cahp.ui import budget_view, shell

explorer = shell.page("Budget")
budget_view.draw(explorer)
