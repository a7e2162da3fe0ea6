"""Perplexity as others compute it: whole texts in their order, by a protocol with a name."""
