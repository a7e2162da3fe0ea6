"""Colours and letters of clusters, on a board and in every figure; none depends on a theme."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.values import Ints

#: Hues that stay apart for every common kind of colour blindness (Okabe and Ito 2008, and two more).
CLUSTER_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#925BE5", "#8C5A2B")
#: Everything beyond eight hues, plain and striped: told apart by its letter.
NEUTRAL = "#8A939B"
#: What ``tints`` are places in: eight plain hues, the neutral one, and the eight again, for clusters that are striped.
COLOURS = (*CLUSTER_COLOURS, NEUTRAL, *CLUSTER_COLOURS)
#: The place of the first striped one.
STRIPED = len(CLUSTER_COLOURS) + 1


def letters(index: int) -> str:
    """A cluster's name: A .. Z, AA, AB, ... ; letters, because heads and layers are numbers."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        name = chr(65 + letter) + name
    return name


def tints(labels: Ints) -> NDArray[np.int64]:
    """The place in ``COLOURS`` of each head ``(N,)`` of ``labels (N,)``.

    The eight largest clusters have plain hues, the next eight the same ones striped; the rest and loners are neutral.
    """
    sizes, hued = np.bincount(labels), len(CLUSTER_COLOURS)
    of_cluster = np.full(len(sizes), hued)
    largest = np.argsort(-sizes, kind="stable")[: 2 * hued]
    for place, cluster in enumerate(largest):
        if sizes[cluster] > 1:
            of_cluster[cluster] = place if place < hued else STRIPED + place - hued
    tinted: NDArray[np.int64] = of_cluster[labels]
    return tinted


def striped(labels: Ints) -> NDArray[np.bool_]:
    """Whether each head ``(N,)`` of ``labels (N,)`` is striped, since a larger cluster has its hue plain."""
    return np.asarray(tints(labels) >= STRIPED)


def hues(labels: Ints, colours: Sequence[str] = CLUSTER_COLOURS) -> list[str]:
    """A colour for every cluster of ``labels (N,)``, as ``tints`` gives them to its heads; ``colours`` are eight."""
    of_cluster, palette = [NEUTRAL] * (int(labels.max()) + 1), (*colours, NEUTRAL, *colours)
    for cluster, tint in zip(labels.tolist(), tints(labels).tolist(), strict=True):
        of_cluster[cluster] = palette[tint]
    return of_cluster


def contrast(colour: str) -> str:
    """Black or white, whichever is easier to read on ``#rrggbb`` (WCAG relative luminance)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
