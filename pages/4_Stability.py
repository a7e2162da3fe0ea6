"""Would it survive another look."""

from cahp.ui.frame import page as shell
from cahp.ui.stability import page as stability_view

stability_view.draw(shell.page("Stability"))
