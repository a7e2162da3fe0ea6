"""The contrast of two colours as a person sees it."""

import numpy as np


def linear(colour: str) -> np.ndarray:
    """Return the light of red, green and blue in ``#rrggbb``."""
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast_ratio(colour: str, ground: str) -> float:
    """Return the contrast of two colours ``#rrggbb`` (WCAG)."""
    low, high = sorted(float(linear(one) @ [0.2126, 0.7152, 0.0722]) for one in (colour, ground))
    return (high + 0.05) / (low + 0.05)
