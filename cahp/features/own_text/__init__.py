"""A person's own text: predictions, and the continuations of language models."""
