"""Two pruned models side by side."""
