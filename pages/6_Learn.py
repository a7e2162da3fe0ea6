"""Redundancy of heads in six guesses."""

from cahp.ui.frame.page import page
from cahp.ui.learn.page import draw

draw(page("Learn"))
