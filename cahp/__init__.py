"""CAHP Explorer: see which attention heads complement each other, and keep only those."""
