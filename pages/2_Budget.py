"""How many heads to keep."""

from cahp.ui.budget.page import draw
from cahp.ui.frame.page import page

draw(page("Budget"))
