"""Two pruned models side by side: the pinned one and the one on the board."""
