"""What is alike."""

from cahp.ui import shell, similarity_view

similarity_view.draw(shell.page("Similarity"))
