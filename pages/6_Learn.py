"""Redundancy of heads in six guesses."""

from cahp.features.learn.page import draw
from cahp.ui.frame.page import page

draw(page("Learn"))
