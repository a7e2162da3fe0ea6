"""The losses of a bundled model with all its heads on the items of its receipt.

They ship with the package: a receipt of one of its masks reads the items with the pruned model only.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cahp.api import bundled
from cahp.features.abilities.record import REVISION
from cahp.models.cards import ModelCard
from cahp.values import Floats

#: The file in the folder of a bundled run.
LOSSES_FILE = "abilities.npz"


def ships_losses(card: ModelCard) -> bool:
    """Tell whether losses of this model ship."""
    return bool(_read_losses(card.id, card.sha256))


def read_shipped_losses(card: ModelCard, items: str) -> NDArray[np.float64] | None:
    """Return the summed losses ``(n, parts)`` of a model on the items with the digest ``items``, in nats.

    None: the file of the model, or this copy of the package, does not have them.
    """
    return _read_losses(card.id, card.sha256).get(items)


def pack_losses(card: ModelCard, losses: Mapping[str, Floats]) -> dict[str, NDArray[np.generic]]:
    """Make the arrays of the file from the losses of a model by the digest of their items."""
    facts = {"model": np.array(card.sha256), "revision": np.array(REVISION)}
    return {**facts, **{digest: np.asarray(sums) for digest, sums in losses.items()}}


@cache
def _read_losses(name: str, sha256: str) -> Mapping[str, NDArray[np.float64]]:
    """Read the losses by the digest of their items; empty if none ship of just this model and these abilities."""
    if name not in bundled.RUNS:
        return {}
    try:
        with np.load(bundled.run_folder(name) / LOSSES_FILE, allow_pickle=False) as arrays:
            content = dict(arrays)
    except FileNotFoundError:
        return {}
    if str(content.pop("model")) != sha256 or int(content.pop("revision")) != REVISION:
        return {}
    return content
