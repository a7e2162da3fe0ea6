"""Home: the story in one screen."""

from cahp.ui import home_view, shell

explorer = shell.page("Home")
home_view.draw(explorer)
