"""Other ways to shrink the cache of a language model, at equal bytes: ``cahp peers``, and a tab on Compare.

A peer changes the model in a way that need not be a mask: layers are dropped, key-value heads merged, or the cache is
rounded. Each returns a model, which is then measured like any other.
"""
