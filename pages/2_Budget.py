"""What to keep."""

from cahp.ui.budget import page as budget_view
from cahp.ui.frame import page as shell

explorer = shell.page("Budget")
budget_view.draw(explorer)
