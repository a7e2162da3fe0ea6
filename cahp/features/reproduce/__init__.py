"""The published experiment, repeated."""
