"""Take it home."""

from cahp.ui.export.page import draw
from cahp.ui.frame.page import page

draw(page("Export"))
