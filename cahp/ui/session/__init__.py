"""The state and the work of one browser session."""
