"""What to keep."""
