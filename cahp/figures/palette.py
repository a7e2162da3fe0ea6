"""Colours and signs: those of clusters and of communities, and the ink of a theme."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cahp.board.colourings import NEUTRAL, STRIPED, HeadMarks, tints
from cahp.values import Ints

#: As far from each other as possible for every common kind of colour blindness, with a contrast of 3 to both grounds.
COMMUNITY_COLOURS = ("#695AE1", "#879669", "#B41E96", "#875A69", "#4B96E1", "#C38700", "#870FFF", "#C31E2D")


def community_name(group: int) -> str:
    """Return the name of a community, given its index: a number from 1."""
    return str(group + 1)


def mark_communities(labels: Ints) -> HeadMarks:
    """Return the marks of the communities of ``labels (N,)``: heads that attend alike on one text.

    Numbers and other hues tell them from clusters; a single head has no colour of its own.
    """
    tinted = tints(labels, smallest=2)
    eight = COMMUNITY_COLOURS
    colours = [(*eight, NEUTRAL, *eight)[tint] for tint in tinted]
    return HeadMarks(colours, [community_name(group) for group in labels], tinted >= STRIPED, "community")


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


def blend(colour: str, ground: str, share: float) -> str:
    """Mix a ``share`` of a colour with a ground, both ``#rrggbb``."""
    mixed = "#"
    for at in (1, 3, 5):
        over = int(colour[at : at + 2], 16)
        under = int(ground[at : at + 2], 16)
        mixed += f"{round(share * over + (1 - share) * under):02x}"
    return mixed


def on_scale(colours: Ink, share: float) -> str:
    """The colour that a share of the scale has."""
    stops = [stop for stop, _ in colours.scale]
    mixed = "#"
    for at in (1, 3, 5):
        channels = [int(colour[at : at + 2], 16) for _, colour in colours.scale]
        mixed += f"{round(float(np.interp(share, stops, channels))):02x}"
    return mixed
