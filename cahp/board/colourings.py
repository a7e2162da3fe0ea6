"""The colourings of a board: what the colour and the letters, or a picture, of a head say, beside those of clusters.

Features bring colourings of their own. A board shows those whose facts its host passes to it.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cahp.run.document import RunDocument
from cahp.run.measures import Measures, show_measured
from cahp.show.blocks import Marks
from cahp.values import Array, Bools, Ints, JsonObject
from cahp.values.statistics import name_clusters

# Colours and names of clusters, for boards and all figures, in light and dark themes --------------------------------


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
    striped: Bools
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


def tints(groups: Ints, *, smallest: int = 1) -> Ints:
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
    return of_group[groups]


@cache
def contrast(colour: str) -> str:
    """Return black or white, the more readable one on ``#rrggbb`` (WCAG relative luminance)."""
    channels = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255
    # The linear light of sRGB.
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else "#ffffff"


@dataclass(frozen=True, eq=False)
class Pictures:
    """A picture on each head: ``pictures (N, B, B)`` of bytes; groups and names are those of clusters."""

    pictures: NDArray[np.uint8]
    legend: str


@dataclass(frozen=True, eq=False)
class Coloured:
    """A colouring of one board: its ``label`` on the switch, and what is on the heads (None: nothing is known).

    ``waits`` offers to measure it, and tells how far that is (empty: it was not asked for; None: not offered).
    """

    name: str
    label: str
    painted: Marks | Pictures | None
    waits: str | None = None


def colour_by_measures(measures: Measures, run: RunDocument) -> list[Coloured]:
    """Return the colourings by what was measured of the heads of a run."""
    coloured = []
    for _, blocks in show_measured(measures, run):
        marks = [block for block in blocks if isinstance(block, Marks)]
        coloured += [Coloured(one.name, one.label, one) for one in marks]
    return coloured


def pack_bytes(array: Array) -> str:
    """Return the bytes of an array as text, which the board's script unpacks."""
    return base64.b64encode(array.tobytes()).decode("ascii")


def encode(colourings: Iterable[Coloured]) -> list[JsonObject]:
    """Return the colourings of heads for the board's script.

    Those that are not measured have only words in ``waits`` if they are offered: the host measures them when a person
    asks for them. Others are left out.
    """
    entries = []
    for one in colourings:
        entry: JsonObject = {"name": one.name, "label": one.label}
        painted = one.painted
        if painted is not None:
            entry["legend"] = painted.legend
            if isinstance(painted, Pictures):
                entry["pictures"] = pack_bytes(painted.pictures)
            else:
                named = painted.colours or range(len(painted.signs))
                colours = [COLOURS[colour] if isinstance(colour, int) else colour for colour in named]
                entry |= {
                    "groups": painted.groups.ravel(),
                    "signs": painted.signs,
                    "words": painted.words,
                    "colours": colours,
                    "inks": list(map(contrast, colours)),
                }
            entries.append(entry)
        elif one.waits is not None:
            entries.append({**entry, "waits": one.waits})
    return entries
