"""``cahp.abilities``: what a model can do, in full, without heads, and recovered."""

from __future__ import annotations

from typing import Unpack

from cahp.api.options import ModelOptions, Name, ShowProgress, read_mask_for, read_settings, show_progress
from cahp.features.abilities.receipt import measure_receipt
from cahp.features.abilities.record import AbilitiesRecord
from cahp.recoveries import NONE
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask, OptionError


def abilities(
    model: Name | Settings = Settings.model,
    data: Name | None = None,
    *,
    mask: HeadMask | Name | None = None,
    recover: str | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> AbilitiesRecord:
    """Measure single abilities of a model, and what is left of them without heads; see ``cahp.features.abilities``.

    ``cahp.abilities("smollm2", mask="head_mask.json").flagged("pruned")`` lists what the mask breaks.

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options.
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        mask: A head mask or its file (None: measure the full model only).
        recover: Also measure the model after this recovery, such as ``refit`` (None: as the ``Settings`` say).
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp abilities``, by the names of ``cahp.Settings``.

    Raises:
        CahpError: If model, data and mask do not fit together; one line with the next step.
    """
    settings = read_settings("abilities", model, data, options, own={"recover": recover})
    if mask is None and settings.recover != NONE.name:
        raise OptionError(f"--recover {settings.recover} needs a pruned model; give its mask with --mask")
    with show_progress(progress, yes=yes) as reporter:
        bench = open_bench(settings, store=store, progress=reporter)
        if mask is None:
            whole = HeadMask.full(bench.card.layers, bench.card.heads)
            return measure_receipt(bench, whole, None).of_full_model()
        keep = read_mask_for(bench.card, mask).mask
        bench.recoveries.check(settings.recover)
        recovered = bench.recoveries.recover(
            keep, settings.recover, labels=settings.labels, seconds=settings.recover_seconds
        )
        return measure_receipt(bench, keep, recovered)
