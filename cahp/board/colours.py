"""Colours and names of clusters, for boards and all figures, in light and dark themes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cahp.values import Ints
from cahp.values.statistics import name_clusters

#: Hues that are distinct for all common kinds of colour blindness (Okabe and Ito 2008, and two more).
CLUSTER_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#925BE5", "#8C5A2B")
#: The colour of groups beyond sixteen, which only their names tell apart.
NEUTRAL = "#8A939B"
#: The colours that ``tints`` index: eight plain hues, the neutral one, and the eight hues of striped groups.
COLOURS = (*CLUSTER_COLOURS, NEUTRAL, *CLUSTER_COLOURS)
#: The index of the first striped colour.
STRIPED = len(CLUSTER_COLOURS) + 1


@dataclass(frozen=True, eq=False)
class HeadMarks:
    """How heads are told apart: the colour and the name of each head's group, and whether it is ``striped (N,)``.

    ``kind`` is what such a group is called.
    """

    colours: list[str]
    names: list[str]
    striped: NDArray[np.bool_]
    kind: str = "cluster"


def mark_clusters(labels: Ints, families: Ints | None = None) -> HeadMarks:
    """Return the marks of the clusters of ``labels (N,)``: the colour of their families, and their names.

    ``families (N,)`` are those of the heads (None: each cluster is one).
    """
    groups = labels if families is None else families
    tinted = tints(groups)
    colours = [COLOURS[tint] for tint in tinted]
    cluster_names = name_clusters(labels, families)
    return HeadMarks(colours, [cluster_names[label] for label in labels], tinted >= STRIPED)


def tints(groups: Ints, *, smallest: int = 1) -> NDArray[np.int64]:
    """Return the index in ``COLOURS`` of each head ``(N,)``, given its group (such as its family) in ``groups (N,)``.

    The eight largest groups have plain hues and the next eight striped ones; others are neutral, as are groups of fewer
    than ``smallest`` heads.
    """
    sizes = np.bincount(groups)
    hued = len(CLUSTER_COLOURS)
    # Without the neutral colour, the places of the plain and of the striped hues.
    hues = [*range(hued), *range(STRIPED, STRIPED + hued)]
    of_group = np.full(len(sizes), hued)
    for hue, group in zip(hues, np.argsort(-sizes, kind="stable"), strict=False):
        if sizes[group] >= smallest:
            of_group[group] = hue
    tinted: NDArray[np.int64] = of_group[groups]
    return tinted


def contrast(colour: str) -> str:
    """Return black or white, the more readable one on ``#rrggbb`` (WCAG relative luminance)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = map(_linear, channels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if luminance > 0.179 else "#ffffff"


def _linear(channel: float) -> float:
    """Return the linear light of a channel of sRGB, both in 0..1."""
    if channel <= 0.04045:
        return channel / 12.92
    return float(((channel + 0.055) / 1.055) ** 2.4)
