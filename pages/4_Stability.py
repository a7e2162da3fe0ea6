"""Whether other data keep the same heads."""

from cahp.ui.frame.page import page
from cahp.ui.stability.page import draw

draw(page("Stability"))
