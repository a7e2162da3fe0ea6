"""The command ``cahp premise``."""

from __future__ import annotations

from cahp.cli.command import OPTIONS, Call, Option, command


@command(
    OPTIONS["eval_limit"].but(default=100),
    OPTIONS["eval_tokens"].but(default=2048),
    Option("pairs", "Pairs of heads to remove (default: all within clusters, and as many between).", int, low=2),
)
def premise(call: Call, pairs: int | None) -> None:
    """Test whether heads of one cluster are redundant, by removing pairs of heads."""
    from cahp.features.premise import use_case
    from cahp.features.premise.measuring import describe

    with call.bars() as progress:
        document = use_case.premise(call.settings, pairs=pairs, store=call.store, progress=progress)
    call.answer(document, describe(document))
