"""The command ``cahp premise``."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import OPTIONS, Call, Option, command
from cahp.files import json_text, write_whole


@command(
    OPTIONS["eval_limit"].but(default=100),
    OPTIONS["eval_tokens"].but(default=2048),
    Option("pairs", "Pairs of heads to remove (default: all within clusters, and as many between).", int, low=2),
    Option("control", "Positive control: divide heads into two equal halves, which the test must find.", bool, False),
    Option("refit", "Also compare measures with the cost after a refit without each head (slow).", bool, False),
    Option("out", "JSON file to write, with the values of all pairs.", Path),
    example="cahp premise --model minilm-bbc --pairs 200",
)
def premise(call: Call, pairs: int | None, control: bool, refit: bool, out: Path | None) -> None:
    """Test whether clusters are redundant.

    Pairs of heads are removed, within clusters and between them.
    """
    from cahp.features.premise import use_case
    from cahp.features.premise.measuring import describe

    with call.bars() as progress:
        document = use_case.premise(
            call.settings, pairs=pairs, control=control, refit=refit, store=call.store, progress=progress
        )
    if out is not None:
        write_whole(out.parent, {out.name: json_text(document).encode()})
    call.answer(document, describe(document))
