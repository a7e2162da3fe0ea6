"""The Stability page."""
