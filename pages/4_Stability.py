"""Would it survive resampling."""

from cahp.ui.frame.page import page
from cahp.ui.stability.page import draw

draw(page("Stability"))
