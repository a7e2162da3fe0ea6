"""What is alike."""

from cahp.ui.frame import page as shell
from cahp.ui.similarity import page as similarity_view

similarity_view.draw(shell.page("Similarity"))
