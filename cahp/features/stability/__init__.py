"""Whether other data keep the same heads."""
