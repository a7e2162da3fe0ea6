"""Is it any good."""

from cahp.ui.compare.page import draw
from cahp.ui.frame.page import page

draw(page("Compare"))
