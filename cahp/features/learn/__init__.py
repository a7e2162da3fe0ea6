"""Redundancy of heads in guesses."""
