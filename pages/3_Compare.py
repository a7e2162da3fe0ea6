"""Is it any good."""

from cahp.ui import compare_view, shell

explorer = shell.page("Compare")
compare_view.draw(explorer)
