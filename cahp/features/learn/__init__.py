"""Redundancy of heads in guesses: the page Learn."""
