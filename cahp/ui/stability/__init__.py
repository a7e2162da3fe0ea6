"""Would it survive another sample."""
