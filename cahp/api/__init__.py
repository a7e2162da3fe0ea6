"""What Python is offered: one line each to prune, compare and look, and results that show, draw and save themselves."""
