"""One deep function each; none knows another, and they meet in ``cahp.values``."""
