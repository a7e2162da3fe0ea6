"""Colours and letters of clusters, for boards and all figures, in light and dark themes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cahp.values import Ints

#: Hues that are distinct for all common kinds of colour blindness (Okabe and Ito 2008, and two more).
CLUSTER_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#925BE5", "#8C5A2B")
#: The colour of clusters beyond eight hues, plain and striped; their letters tell them apart.
NEUTRAL = "#8A939B"
#: The colours that ``tints`` index: eight plain hues, the neutral one, and the eight hues for striped clusters.
COLOURS = (*CLUSTER_COLOURS, NEUTRAL, *CLUSTER_COLOURS)
#: The index of the first striped colour.
STRIPED = len(CLUSTER_COLOURS) + 1


def letters(index: int) -> str:
    """Return a cluster's name: A .. Z, AA, AB, ...; heads and layers have numbers."""
    name = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        name = chr(65 + letter) + name
    return name


def tints(labels: Ints) -> NDArray[np.int64]:
    """Return the index in ``COLOURS`` of each head ``(N,)``, given its cluster in ``labels (N,)``.

    The eight largest clusters have plain hues and the next eight striped ones; others and single heads are neutral.
    """
    tinted: NDArray[np.int64] = _cluster_tints(labels)[labels]
    return tinted


def _cluster_tints(labels: Ints) -> NDArray[np.int64]:
    sizes, hued = np.bincount(labels), len(CLUSTER_COLOURS)
    of_cluster = np.full(len(sizes), hued)
    for place, cluster in enumerate(np.argsort(-sizes, kind="stable")[: 2 * hued]):
        if sizes[cluster] > 1:
            of_cluster[cluster] = place if place < hued else STRIPED + place - hued
    return of_cluster


def striped(labels: Ints) -> NDArray[np.bool_]:
    """Return whether each head ``(N,)`` is striped, because a larger cluster has the plain hue."""
    return np.asarray(tints(labels) >= STRIPED)


def hues(labels: Ints, colours: Sequence[str] = CLUSTER_COLOURS) -> list[str]:
    """Return a colour for each cluster of ``labels (N,)``, as ``tints`` has them; ``colours`` are eight."""
    return [(*colours, NEUTRAL, *colours)[tint] for tint in _cluster_tints(labels)]


def contrast(colour: str) -> str:
    """Return black or white, the more readable one on ``#rrggbb`` (WCAG relative luminance)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if luminance > 0.179 else "#ffffff"
