"""Home: the story in one screen."""

from cahp.ui.frame.page import page
from cahp.ui.home import draw

draw(page("Home"))
