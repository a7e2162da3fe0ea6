"""How good the choice of heads is."""

from cahp.ui.compare.page import draw
from cahp.ui.frame.page import page

draw(page("Compare"))
