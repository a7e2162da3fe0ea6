"""Home: the story in one screen."""

from cahp.ui import home as home_view
from cahp.ui.frame import page as shell

explorer = shell.page("Home")
home_view.draw(explorer)
