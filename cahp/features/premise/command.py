"""The command ``cahp premise``."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import OPTIONS, Call, Option, command, optional_file
from cahp.files import json_text


@command(
    OPTIONS["eval_limit"].but(default=100),
    OPTIONS["eval_tokens"].but(default=2048),
    Option("pairs", "Pairs of heads to remove (default: all within clusters, and as many between).", int, low=2),
    Option("control", "Positive control: divide heads into two equal halves, which the test must find.", bool, False),
    Option("refit", "Also compare measures with the cost after a refit without each head (slow).", bool, False),
    Option("out", "JSON file to write, with the values of all pairs.", Path),
    "force",
    example="cahp premise --model minilm-bbc --pairs 200",
)
def premise(call: Call, pairs: int | None, control: bool, refit: bool, out: Path | None, force: bool) -> None:
    """Test whether clusters are redundant.

    Pairs of heads are removed, within clusters and between them.
    """
    from cahp.features.premise import use_case
    from cahp.features.premise.measuring import describe

    with optional_file(out, force, "cahp.premise") as output:
        with call.bars() as progress:
            document = use_case.premise(
                call.settings, pairs=pairs, control=control, refit=refit, store=call.store, progress=progress
            )
        lines = describe(document)
        if output is not None and out is not None:
            with call.keeping(document, lines):
                output.write({out.name: json_text(document).encode()})
    call.answer(document, lines)
