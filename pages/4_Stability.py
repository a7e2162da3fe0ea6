"""Would it survive another look."""

from cahp.ui import shell, stability_view

stability_view.draw(shell.page("Stability"))
