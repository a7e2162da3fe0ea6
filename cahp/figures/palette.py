"""Colours and signs: those of clusters and of communities, and the ink of a theme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cahp.board.colours import CLUSTER_COLOURS, hues, letters
from cahp.values import Ints


@dataclass(frozen=True)
class Grouping:
    """How groups of heads are told apart: what ``one`` is called, the eight ``colours`` of the largest, and a sign."""

    one: str
    colours: tuple[str, ...]
    sign: Callable[[int], str]

    def hues(self, labels: Ints) -> list[str]:
        """A colour for every group of ``labels (N,)``: the eight largest, the next eight once more, else neutral.

        See ``cahp.board.colours.striped`` for what tells the second eight from the first.
        """
        return hues(labels, self.colours)


#: Heads that separate the classes of a task alike: what CAHP chooses from.
CLUSTERS = Grouping("cluster", CLUSTER_COLOURS, letters)
#: Heads that attend alike on one text. Numbers and other hues, so that nobody takes a community for a cluster: as far
#: from each other as they get for every common kind of colour blindness, and visible on a light and a dark ground.
COMMUNITIES = Grouping(
    "community",
    ("#7C20D8", "#37BF1C", "#8C317D", "#91A57C", "#D84BD8", "#317211", "#BF8FAF", "#595542"),
    lambda group: str(group + 1),
)


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


def on_scale(colours: Ink, share: float) -> str:
    """The colour that a share of the scale has."""
    stops = [stop for stop, _ in colours.scale]
    channels = [
        np.interp(share, stops, [int(colour[at : at + 2], 16) for _, colour in colours.scale]) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{round(float(channel)):02x}" for channel in channels)
