"""Downloads of the run, the mask and the model."""

from cahp.ui.export.page import draw
from cahp.ui.frame.page import page

draw(page("Export"))
