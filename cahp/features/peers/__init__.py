"""Other ways to shrink the cache of a language model, at equal bytes: a claim on Compare, from bundled results.

``cahp experiment peers`` measures them.
"""
