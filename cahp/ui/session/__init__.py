"""One person's exploration."""
