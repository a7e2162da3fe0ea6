"""The command ``cahp abilities``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cahp.cli.command import OPTIONS, REQUIRED, Call, command


@command(
    OPTIONS["model"].but(default=REQUIRED, fills=False, argument=True),
    OPTIONS["mask"].but(default=None, help="A head mask (default: measure the full model only)."),
    example="cahp abilities smollm2 --mask run/head_mask.json",
)
def abilities(call: Call, model: str, mask: Path | None) -> None:
    """Measure what a pruned model can still do.

    Repeating, looking up, grammar and others: what the full model can, and what is left of it under a mask.
    """
    from cahp.features.abilities import use_case
    from cahp.features.abilities.lines import receipt_lines

    settings = replace(call.settings, model=model)
    with call.bars() as progress:
        record = use_case.abilities(settings, mask=mask, store=call.store, progress=progress)
    document = {"model": model, "recover": settings.recover, **record.to_json()}
    call.answer(document, receipt_lines(record, settings.recover))
