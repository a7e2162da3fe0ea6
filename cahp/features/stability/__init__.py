"""Whether other data keep the same heads: the page Stability."""
