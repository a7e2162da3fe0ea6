"""Is it any good."""

from cahp.ui.compare import page as compare_view
from cahp.ui.frame import page as shell

explorer = shell.page("Compare")
compare_view.draw(explorer)
