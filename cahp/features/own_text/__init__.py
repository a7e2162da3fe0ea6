"""A person's own text: predictions and continuations."""
