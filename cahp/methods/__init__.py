"""Ways to choose heads, one file each; importing this package registers them."""

from cahp.methods import (
    ablation,
    attattr,
    complementary,
    confidence,
    dsp,
    facility,
    fisher,
    gradient,
    hies,
    l0,
    magnitude,
    passing,
    random_heads,
)

__all__ = [
    "ablation",
    "attattr",
    "complementary",
    "confidence",
    "dsp",
    "facility",
    "fisher",
    "gradient",
    "hies",
    "l0",
    "magnitude",
    "passing",
    "random_heads",
]
