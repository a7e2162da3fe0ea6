"""Redundancy in six steps, alone or as a class."""
