"""Whether heads of one cluster are redundant."""
