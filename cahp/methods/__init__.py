"""Ways to choose heads, one file each; importing this package registers them."""

from cahp.methods import complementary

__all__ = ["complementary"]
