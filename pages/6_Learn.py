"""Redundancy in six small steps."""

from cahp.ui.frame.page import page
from cahp.ui.learn.page import draw

draw(page("Learn"))
