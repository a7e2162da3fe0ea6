"""The colourings of a board: one table of what the colour and the letters, or a picture, of a head say.

A new colouring is one row of ``COLOURINGS`` and its function. The board shows those that have what they need.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.board.colours import COLOURS, NEUTRAL, contrast
from cahp.features.roles.habits import HeadMaps
from cahp.values import Floats, HeadMask
from cahp.values.head_roles import NO_ROLE, NOUNS, ROLES, HeadRoles

#: The index in ``COLOURS`` of each role; heads without one are neutral.
_ROLE_TINTS = {"retrieval": 5, "induction": 1, "duplicate": 3, "previous": 0, "current": 4, "first": 2, NO_ROLE: 8}


@dataclass(frozen=True, eq=False)
class HeadFacts:
    """What colourings may show: the mask on the board, and what is known of the heads (None: not measured)."""

    mask: HeadMask
    roles: HeadRoles | None = None
    #: The share ``(L, H)`` of each head that the other kept heads of its layer can reproduce; NaN without any effect.
    shares: Floats | None = None
    #: What they attend to.
    maps: HeadMaps | None = None


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
class Colouring:
    """A colouring: its ``label`` on the switch, and its function (None: it has not what it needs)."""

    name: str
    label: str
    paint: Callable[[HeadFacts], Painted | Pictures | None]


def _paint_maps(facts: HeadFacts) -> Pictures | None:
    if facts.maps is None:
        return None
    return Pictures(facts.maps.pictures, f"Mean attention, {facts.maps.texts} texts: rows to columns")


def _paint_roles(facts: HeadFacts) -> Painted | None:
    if facts.roles is None:
        return None
    names = list(NOUNS)
    groups = np.array([names.index(name) for name in facts.roles.names], dtype=np.int64)
    return Painted(
        groups,
        np.array([_ROLE_TINTS[names[group]] for group in groups], dtype=np.int64),
        tuple("" if name == NO_ROLE else ROLES[name].short for name in names),
        tuple("no role" if name == NO_ROLE else f"{NOUNS[name]} head" for name in names),
        "A head has the role of what gets a large share of its attention, beyond chance",
    )


#: From what no kept head can reproduce to what they reproduce almost wholly, evenly spaced to the eye and without red
#: against green; at last the colour of heads without effect.
_SHARE_COLOURS = ("#440154", "#3B528B", "#21918C", "#5EC962", "#FDE725", NEUTRAL)


def _paint_shares(facts: HeadFacts) -> Painted | None:
    if facts.shares is None:
        return None
    bands = len(_SHARE_COLOURS) - 1
    shares = facts.shares.ravel()
    groups = np.where(np.isnan(shares), bands, np.minimum(np.nan_to_num(shares) * bands, bands - 1)).astype(np.int64)
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


#: All colourings but the first of every board, that of clusters.
COLOURINGS: Mapping[str, Colouring] = {
    row.name: row
    for row in (
        Colouring("attention", "what they attend to", _paint_maps),
        Colouring("replaceability", "replaceability", _paint_shares),
        Colouring("roles", "roles", _paint_roles),
    )
}


def paint(facts: HeadFacts, *, offered: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the colourings of heads for the board's script.

    Those that lack what they need are left out, or have null as ``groups`` if they are ``offered``: the host measures
    them when a person asks for them. The words that they are offered with tell how far that is (empty: not asked for).
    """
    entries = []
    for row in COLOURINGS.values():
        painted = row.paint(facts)
        if painted is not None:
            entries.append({"name": row.name, "label": row.label, **painted.as_data()})
        elif offered is not None and row.name in offered:
            entries.append({"name": row.name, "label": row.label, "groups": None, "waits": offered[row.name]})
    return entries
