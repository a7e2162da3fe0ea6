"""The calibration mix of a causal language model: parts of its calibration tokens that are not text of the data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cahp.values import OptionError

T = TypeVar("T")

#: The part of sequences that are read twice; all other names are those of data.
REPEATS = "repeats"
#: The mix without any part.
NO_MIX = "0"
#: The largest share of all parts together: the mix is added to text, and does not replace it.
_MOST = 90

_PART = re.compile(r"\s*(?P<name>[^=]+?)\s*=\s*(?P<share>[0-9]{1,2}(?:\.[0-9]{1,3})?)\s*%\s*")


@dataclass(frozen=True)
class Mix:
    """The share of the calibration tokens, from 0 to 1, that each part has; the rest is text of the data."""

    shares: Mapping[str, float]

    @classmethod
    def parse(cls, text: str) -> Mix:
        """Read a mix such as ``repeats=10%,notes.txt=5%``; ``0`` has no part.

        Raises:
            OptionError: If it is none, or leaves less than a tenth of the tokens for the data.
        """
        if text.strip() == NO_MIX:
            return cls({})
        shares: dict[str, float] = {}
        for part in text.split(","):
            match = _PART.fullmatch(part)
            if match is None or match["name"] in shares:
                raise OptionError(f'--mix: cannot read "{text}"; write repeats=10%, repeats=10%,notes.txt=5% or 0')
            shares[match["name"]] = float(match["share"]) / 100
        if sum(shares.values()) > _MOST / 100:
            raise OptionError(f'--mix: "{text}" leaves hardly any text of the data; use at most {_MOST}% in all')
        return cls({name: share for name, share in shares.items() if share})

    @property
    def text_share(self) -> float:
        """The share of text of the data."""
        return 1 - sum(self.shares.values())

    @property
    def sources(self) -> dict[str, float]:
        """The shares of other data, by name."""
        return {name: share for name, share in self.shares.items() if name != REPEATS}

    def __str__(self) -> str:
        return ", ".join(f"{100 * share:g} % {_NOUNS.get(name, name)}" for name, share in self.shares.items())


_NOUNS = {REPEATS: "repeated passages and random tokens"}


def spread_among(items: Sequence[T], others: Sequence[T]) -> list[T]:
    """Return ``items`` in their order with ``others`` evenly spread among them, so that each part has both kinds."""
    places = [(place + 0.5) / len(items) for place in range(len(items))]
    places += [(place + 0.5) / len(others) for place in range(len(others))]
    everything = [*items, *others]
    return [everything[row] for row in np.argsort(places, kind="stable")]
