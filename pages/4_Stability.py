"""Would it survive another sample."""

from cahp.ui.frame.page import page
from cahp.ui.stability.page import draw

draw(page("Stability"))
