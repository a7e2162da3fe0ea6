"""Colours: hues and letters of clusters, the ink of a theme, and what is readable on what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cahp.values import Ints

#: Hues that stay apart for every common kind of colour blindness (Okabe and Ito 2008, and two more).
CLUSTER_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#925BE5", "#8C5A2B")
#: Everything beyond eight hues: told apart by its letter.
NEUTRAL = "#8A939B"


@dataclass(frozen=True)
class Ink:
    """Colours that follow the theme: text and outlines, faint lines, the ground, the accent, a scale of amounts."""

    text: str
    faint: str
    ground: str
    accent: str
    scale: tuple[tuple[float, str], ...]


# Nothing is as light as the ground, much is as dark as ink: by lightness alone the order of amounts stays readable.
_LIGHT = Ink(
    "#1c2327", "#d5dade", "#ffffff", "#0f6e84", ((0, "#f4f6f7"), (0.35, "#8ec3cf"), (0.7, "#2b7f95"), (1, "#0b3a47"))
)
_DARK = Ink(
    "#e6eaec", "#343c40", "#101416", "#56b6cc", ((0, "#1a2023"), (0.35, "#14596b"), (0.7, "#3aa3bd"), (1, "#d8f4fa"))
)


def ink(*, dark: bool) -> Ink:
    """The colours of a theme."""
    return _DARK if dark else _LIGHT


def letters(index: int) -> str:
    """A cluster's name: A .. Z, AA, AB, ... ; letters, because heads and layers are numbers."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        name = chr(65 + letter) + name
    return name


def hues(labels: Ints) -> list[str]:
    """A colour for every cluster of ``labels (N,)``: the eight largest get hues, the rest and loners are neutral."""
    sizes = np.bincount(labels)
    colours = [NEUTRAL] * len(sizes)
    largest = np.argsort(-sizes, kind="stable")[: len(CLUSTER_COLOURS)]
    for colour, cluster in zip(CLUSTER_COLOURS, largest, strict=False):
        if sizes[cluster] > 1:
            colours[cluster] = colour
    return colours


def on_scale(colours: Ink, share: float) -> str:
    """The colour that a share of the scale has."""
    stops = [stop for stop, _ in colours.scale]
    channels = [
        np.interp(share, stops, [int(colour[at : at + 2], 16) for _, colour in colours.scale]) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{round(float(channel)):02x}" for channel in channels)


def contrast(colour: str) -> str:
    """Black or white, whichever is easier to read on ``#rrggbb`` (WCAG relative luminance)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
