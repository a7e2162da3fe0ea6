"""The command ``cahp attribute``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cahp.cli.command import OPTIONS, Call, Option, command, optional_file
from cahp.features.attribution import TOP
from cahp.output import UnwrittenError
from cahp.values import Input, OptionError


@command(
    OPTIONS["model"].but(fills=False, argument=True),
    Option("text", "The text: a classifier reads it, a language model continues it."),
    Option("pair", "The second text, for a model that reads pairs."),
    Option("answer", 'A class, or one token that follows, such as " Paris" (default: the predicted one).'),
    Option("top", "Heads to remove exactly, each and together; at most half of all.", int, TOP, low=1, high=1000),
    Option("out", "JSON file to write: the mask of the fewest heads that keep the answer.", Path),
    "force",
    example='cahp attribute smollm2 --text "The capital of France is"',
)
def attribute(
    call: Call,
    model: str,
    text: str | None,
    pair: str | None,
    out: Path | None,
    force: bool,
    **question: Any,
) -> None:
    """Measure which heads matter for one text.

    Attribution patching estimates how the answer's log-probability changes without
    each head. The top heads, and random ones, are then removed exactly.
    """
    from cahp.exports.masks import MaskOrigin, mask_json
    from cahp.features.attribution import measuring
    from cahp.features.attribution.result import show_attribution
    from cahp.show.terminal import lines

    if text is None:
        raise OptionError('a text is needed; give --text "..."')
    given: Input = text
    if pair is not None:
        given = text, pair
    with optional_file(out, force) as output:
        settings = replace(call.settings, model=model)
        with call.bars() as progress:
            result = measuring.attribute(settings, given, **question, store=call.store, progress=progress)
        document = result.to_json()
        shown = [*lines(show_attribution(result))]
        if output is not None and out is not None:
            with call.keeping(document, shown):
                if result.needed is None:
                    raise UnwrittenError(
                        f"the model predicts {result.shown_prediction}, so no mask keeps {result.shown_answer}; leave "
                        "out --answer"
                    )
                mask = result.needed.mask
                metrics = {"answer": result.answer, "log_probability": result.needed.log_probability}
                origin = MaskOrigin(result.model, "attribution", {"attained": mask.count}, metrics)
                output.write({out.name: mask_json(mask, origin)})
            shown.append(output.describe([out.name]))
    call.answer(document, shown)
