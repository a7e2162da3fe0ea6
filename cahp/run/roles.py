"""The roles of a model's heads, measured once and kept in the store."""

from __future__ import annotations

from functools import partial

import msgspec

from cahp.files import plain_json
from cahp.run.resources import Resources
from cahp.store import key
from cahp.values.head_roles import HeadRoles, RoleAblation

#: Bump to invalidate cached results.
_REVISION = 3


def find_roles(resources: Resources, *, ablate: bool = False) -> HeadRoles:
    """Measure the roles of the heads of the full model; with ``ablate`` also the losses without them.

    The ablation of each role is kept as soon as it is measured, so an interrupted one goes on with the next role.

    Raises:
        ModelError: If the model reads too few tokens, or has no loss for ablations.
    """
    roles = stored_roles(resources, ablate=ablate)
    if roles is not None:
        return roles
    from cahp.stages.roles import STAGE, ablate_roles, measure_roles

    if ablate:
        roles = find_roles(resources)
        known = _stored_ablations(resources, roles)
        with resources.timed(STAGE):
            roles = ablate_roles(
                resources.model,
                roles,
                known=known,
                keep=partial(_keep_ablation, resources),
                progress=resources.progress,
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


def _stored_ablations(resources: Resources, roles: HeadRoles) -> dict[str, RoleAblation]:
    """The ablations of single roles that were measured before, by role."""
    stored: dict[str, RoleAblation] = {}
    for role in roles.scores:
        ablation = resources.store.read(
            _ablation_key(resources, role), lambda entry: msgspec.convert(entry.meta, RoleAblation, strict=False)
        )
        if ablation is not None:
            stored[role] = ablation
    return stored


def _keep_ablation(resources: Resources, ablation: RoleAblation) -> None:
    resources.keep(_ablation_key(resources, ablation.role), {}, plain_json(ablation))


def _ablation_key(resources: Resources, role: str) -> str:
    return key("role ablation", _REVISION, resources.card.sha256, role)


def _key(resources: Resources, ablate: bool) -> str:
    return key("roles", _REVISION, resources.card.sha256, ablate)
