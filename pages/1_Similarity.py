"""Which heads attend alike."""

from cahp.ui.frame.page import page
from cahp.ui.similarity.page import draw

draw(page("Similarity"))
