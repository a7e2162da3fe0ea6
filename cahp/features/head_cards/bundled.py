"""The bundled parts of the cards of a model's heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from cahp.features.head_cards.measuring import Example
from cahp.features.head_cards.sentences import SENTENCES_SHA256
from cahp.outcomes import Outcomes
from cahp.values import Estimate

#: What the cards of its heads show, in the folder of a bundled run.
CARDS_FILE = "cards.json"


@dataclass(frozen=True)
class BundledCards:
    """The examples of each head and the outcomes without it, by flat index.

    ``sentences`` is the digest of the sentences that examples refer to, ``made`` the machine and day.
    """

    sentences: str
    examples: tuple[tuple[Example, ...], ...]
    removals: tuple[Mapping[str, Estimate], ...]
    made: Mapping[str, str]


@cache
def read_cards(folder: Path) -> BundledCards | None:
    """Read the cards in the folder of a bundled run (None: it has none for these sentences)."""
    file = folder / CARDS_FILE
    if not file.exists():
        return None
    cards = msgspec.json.decode(file.read_bytes(), type=BundledCards)
    if cards.sentences != SENTENCES_SHA256:
        return None
    return cards


def shorten(outcomes: Outcomes) -> Outcomes:
    """Round outcomes to five significant digits: there are some for each head."""
    short = {}
    for name, estimate in outcomes.items():
        interval = estimate.ci95
        if interval is not None:
            interval = (_round(estimate.low), _round(estimate.high))
        short[name] = Estimate(_round(estimate.value), interval, estimate.n, estimate.unit)
    return short


def _round(value: float) -> float:
    return float(f"{value:.5g}")
