"""The roles of a model's heads, measured once and kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp.files import plain_json
from cahp.run.resources import Resources
from cahp.store import key
from cahp.values.head_roles import HeadRoles

#: Bump to invalidate cached results.
_REVISION = 3


def find_roles(resources: Resources, *, ablate: bool = False) -> HeadRoles:
    """Measure the roles of the heads of the full model; with ``ablate`` also the losses without them.

    The losses without some sets of heads are kept as soon as they are measured, so an interrupted ablation goes on.

    Raises:
        ModelError: If the model reads too few tokens, or has no loss for ablations.
    """
    roles = stored_roles(resources, ablate=ablate)
    if roles is not None:
        return roles
    from cahp.stages.roles import STAGE, ablate_roles, measure_roles

    if ablate:
        roles = find_roles(resources)
        with resources.timed(STAGE):
            roles = ablate_roles(
                resources.model, roles, cached=partial(_find_losses, resources), progress=resources.progress
            )
    else:
        with resources.timed(STAGE):
            roles = measure_roles(resources.model, progress=resources.progress)
    resources.keep(_key(resources, ablate), {}, plain_json(roles))
    return roles


def stored_roles(resources: Resources, *, ablate: bool = False) -> HeadRoles | None:
    """Return the result of ``find_roles`` from the store, or None; nothing is measured."""
    return resources.load_cached(
        "roles", _key(resources, ablate), lambda entry: msgspec.convert(entry.meta, HeadRoles, strict=False)
    )


def _find_losses(resources: Resources, name: str, compute: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the stored losses of this name, or compute and store them."""
    entry = key("role ablation", _REVISION, resources.card.sha256, name)
    stored = resources.store.read(entry, lambda of: of.arrays["losses"])
    if stored is not None:
        return stored
    losses = compute()
    resources.keep(entry, {"losses": losses})
    return losses


def _key(resources: Resources, ablate: bool) -> str:
    return key("roles", _REVISION, resources.card.sha256, ablate)
