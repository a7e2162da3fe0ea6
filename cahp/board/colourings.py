"""The colourings of a board: what the colour and the letters, or a picture, of a head say, beside those of clusters.

Features bring colourings of their own. A board shows those whose facts its host passes to it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from cahp.run.document import RunDocument
from cahp.run.measures import Measures, show_measured
from cahp.show.blocks import Marks
from cahp.values import Floats, HeadMask, Ints
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


F = TypeVar("F")


@dataclass(frozen=True, eq=False)
class Painted:
    """The colours of heads: the group ``groups (N,)`` of each, its index ``tints (N,)`` in ``colours``, and words.

    ``signs`` are the few letters on a head of each group, ``words`` their names in sentences, and ``legend`` tells what
    the colours mean.
    """

    groups: NDArray[np.int64]
    tints: NDArray[np.int64]
    signs: tuple[str, ...]
    words: tuple[str, ...]
    legend: str
    colours: tuple[str, ...] = COLOURS

    def as_data(self) -> dict[str, Any]:
        """Return the fields as the board's script takes them."""
        inks = [contrast(colour) for colour in self.colours]
        return {**vars(self), "groups": self.groups.tolist(), "tints": self.tints.tolist(), "inks": inks}


@dataclass(frozen=True, eq=False)
class Pictures:
    """A picture on each head: ``pictures (N, B, B)`` of bytes; groups and names are those of clusters."""

    pictures: NDArray[np.uint8]
    legend: str

    def as_data(self) -> dict[str, Any]:
        """Return the fields as the board's script takes them."""
        encoded = base64.b64encode(self.pictures.tobytes()).decode("ascii")
        return {"legend": self.legend, "pictures": encoded, "size": self.pictures.shape[1]}


@dataclass(frozen=True)
class Colouring(Generic[F]):
    """A colouring: its ``label`` on the switch, and what it draws of its facts on the heads of a mask.

    ``follows_mask`` tells that its facts are about one mask, or one text. Others are drawn once.
    """

    name: str
    label: str
    paint: Callable[[F, HeadMask], Painted | Pictures]
    follows_mask: bool = False


@dataclass(eq=False)
class Coloured(Generic[F]):
    """A colouring of one board with its ``facts`` (None: not measured, or not asked for).

    ``waits`` offers to measure them, and tells how far that is (empty: it was not asked for; None: not offered).
    """

    colouring: Colouring[F]
    facts: F | None
    waits: str | None = None
    _drawn: dict[str, Any] | None = field(default=None, init=False)

    def draw(self, mask: HeadMask) -> dict[str, Any]:
        """Return what the facts, which must be known, look like on the heads of ``mask``, for the board's script."""
        assert self.facts is not None
        if self._drawn is None or self.colouring.follows_mask:
            self._drawn = self.colouring.paint(self.facts, mask).as_data()
        return self._drawn


#: From what no kept head can reproduce to what they reproduce almost wholly, evenly spaced to the eye and without red
#: against green; at last the colour of heads without effect.
_SHARE_COLOURS = ("#440154", "#3B528B", "#21918C", "#5EC962", "#FDE725", NEUTRAL)


def _paint_shares(shares: Floats, mask: HeadMask) -> Painted:
    """Draw the share ``(L, H)`` of each head that other kept heads of its layer can reproduce; NaN: no effect."""
    bands = len(_SHARE_COLOURS) - 1
    flat = shares.ravel()
    groups = np.where(np.isnan(flat), bands, np.minimum(np.nan_to_num(flat) * bands, bands - 1)).astype(np.int64)
    lows = [100 * band // bands for band in range(bands)]
    return Painted(
        groups,
        groups,
        (*map(str, lows), ""),
        (*(f"{low} to {low + 100 // bands} % replaceable" for low in lows), "without effect"),
        "Number: at least so many per cent of a head's contribution to the predictions can be reproduced by the other "
        "kept heads of its layer",
        _SHARE_COLOURS,
    )


#: What the other kept heads of a head's layer can reproduce of it.
REPLACEABILITY = Colouring("replaceability", "replaceability", _paint_shares, follows_mask=True)


def paint_marks(marks: Marks) -> Painted:
    """Return marks of heads in the colours of a board."""
    groups = marks.groups.ravel()
    colours = marks.colours or range(len(marks.signs))
    if all(isinstance(colour, int) for colour in colours):
        tints = np.array(colours, dtype=np.int64)[groups]
        return Painted(groups, tints, tuple(marks.signs), tuple(marks.words), marks.legend)
    return Painted(groups, groups, tuple(marks.signs), tuple(marks.words), marks.legend, tuple(map(str, colours)))


def colour_by_measures(measures: Measures, run: RunDocument) -> list[Coloured[Any]]:
    """Return the colourings by what was measured of the heads of a run."""
    coloured: list[Coloured[Any]] = []
    for _, blocks in show_measured(measures, run):
        for block in blocks:
            if isinstance(block, Marks):
                colouring: Colouring[Marks] = Colouring(block.name, block.label, lambda marks, mask: paint_marks(marks))
                coloured.append(Coloured(colouring, block))
    return coloured


def paint(colourings: Iterable[Coloured[Any]], mask: HeadMask) -> list[dict[str, Any]]:
    """Return the colourings of heads for the board's script.

    Those without facts have null as ``groups`` if they are offered: the host measures them when a person asks for them.
    Others are left out.
    """
    entries = []
    for one in colourings:
        row = one.colouring
        if one.facts is not None:
            entries.append({"name": row.name, "label": row.label, **one.draw(mask)})
        elif one.waits is not None:
            entries.append({"name": row.name, "label": row.label, "groups": None, "waits": one.waits})
    return entries
