"""The command ``cahp roles``."""

from __future__ import annotations

from cahp.cli.command import REQUIRED, Call, Option, command


@command(
    Option("name", "The model.", str, REQUIRED, argument=True),
    Option("ablate", "Also remove the heads of each role, and random ones of their layers (minutes).", bool, False),
    example="cahp roles smollm2",
)
def roles(call: Call, name: str, ablate: bool) -> None:
    """Measure what each head attends to.

    Roles are first token, induction, retrieval and others. Many heads have none.
    """
    from cahp.features.roles import section
    from cahp.run.measures import MaskSubject
    from cahp.show.terminal import lines
    from cahp.values import HeadMask

    settings = call.settings
    with call.bars() as progress:
        result = section.roles(
            name, ablate=ablate, device=settings.device, dtype=settings.dtype, store=call.store, progress=progress
        )
    subject = MaskSubject(HeadMask.full(result.layers, result.heads))
    call.answer({"model": name, **result.to_json()}, lines(section.ROLES_OF_HEADS.show(result, subject)))
