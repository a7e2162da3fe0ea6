"""``cahp.roles``: what the heads of a model attend to, with evidence."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from cahp.api.options import Name, ShowProgress, show_progress
from cahp.models import Dtype
from cahp.run import Resources, Settings, find_roles, identify_model
from cahp.store import Store
from cahp.values.head_roles import HeadRoles

if TYPE_CHECKING:
    from cahp.models import HeadModel


def roles(
    model: Name | HeadModel = Settings.model,
    *,
    ablate: bool = False,
    device: str = Settings.device,
    dtype: Dtype = Settings.dtype,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
) -> HeadRoles:
    """Measure the roles of the heads of a model, without labels or data; see ``cahp.values.head_roles.ROLES``.

    ``cahp.roles("smollm2").names`` has the role of each key-value group, or "none".

    Args:
        model: A built-in, a hub id, a folder, a GGUF file, or a model loaded by ``cahp.load``.
        ablate: Also measure the loss of a causal language model without the heads of each role, and without random
            sets of as many heads of the same layers, on sequences that did not assign the roles.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        dtype: ``float32``, ``auto`` or ``bfloat16``, see ``cahp.load``.
        progress, yes, store: See ``cahp.prune``.

    Raises:
        CahpError: If the model cannot be loaded or read, or ablations have no loss; one line with the next step.
    """
    with show_progress(progress, yes=yes) as reporter:
        store = store or Store()
        if isinstance(model, str | PathLike):
            card = identify_model(replace(Settings(), model=str(model), dtype=dtype))
            resources = Resources(card, store=store, device=device, progress=reporter)
        else:
            resources = Resources(model.card, store=store, model=model, progress=reporter)
        return find_roles(resources, ablate=ablate)
