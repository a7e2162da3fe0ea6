"""Whether other data keep the same heads."""

from cahp.features.stability.page import draw
from cahp.ui.frame.page import page

draw(page("Stability"))
