"""``cahp evaluate --protocol``: the perplexity of a whole text, as others compute it."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Alternative, Call, Option


def _measure(call: Call, mask: Path | None, protocol: str, first: int | None) -> None:
    from cahp.features.standard_protocol.lines import perplexity_lines
    from cahp.features.standard_protocol.use_case import measure_perplexity

    with call.bars() as progress:
        document = measure_perplexity(
            call.settings,
            protocol=protocol,  # type: ignore[arg-type]  # checked there
            mask=mask,
            first=first,
            store=call.store,
            progress=progress,
        )
    call.answer(document, perplexity_lines(document))


PROTOCOL = Alternative(
    (
        Option(
            "protocol",
            "Evaluate a whole text in its order, as others do: lm-eval (word perplexity of lm-evaluation-harness) or "
            "transformers (perplexity of its guide). Others use --window 2048.",
            values="NAME",
        ),
        Option("first", "Evaluate only the first tokens with --protocol, so many at least (default: all).", int, low=1),
    ),
    _measure,
)
