"""Attributions in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cahp.features.attribution.result import Attribution, NeededHeads, quoted, signed_nats
from cahp.words import percent


def attribution_lines(result: Attribution) -> Iterator[str]:
    """Return an attribution as lines of text."""
    given = f"{result.shown_answer}, probability {percent(float(np.exp(result.log_probability)))}"
    if result.predicted != result.answer:
        given += f"; the model predicts {result.shown_prediction}"
    yield f"{result.model}, {result.tokens} tokens, answer {given}"
    yield ""
    yield f"  change of the {result.metric} without a {result.unit}, nats"
    yield f"  {'layer':>7}{result.unit:>8}{'estimated':>12}{'exact':>12}"
    for one in result.removed:
        yield f"  {one.layer:>7}{one.head:>8}{signed_nats(one.estimated):>12}{signed_nats(one.exact):>12}"
    yield ""
    yield f"  {result.finding}"
    if result.needed is not None:
        yield f"  {describe_needed(result, result.needed)}"
    yield f"  a removed {result.unit} gives its {result.baseline}"


def describe_needed(result: Attribution, needed: NeededHeads) -> str:
    """Describe the fewest heads that keep the answer."""
    count = needed.mask.count
    verb = "keep"
    if count == 1:
        verb = "keeps"
    kept = f"{count} of {result.changes.size} {result.unit}s {verb} the answer {result.shown_answer}"
    if needed.checked:
        kept += f" ({count - 1} do not)"
    pruned = f"as pruned, without the means, it is {quoted(needed.as_pruned)}"
    if needed.as_pruned == result.answer:
        pruned = "as pruned, without the means, too"
    return f"{kept}; {pruned}"
