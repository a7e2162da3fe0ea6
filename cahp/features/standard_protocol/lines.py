"""A perplexity by a standard protocol in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cahp.outcomes import OUTCOMES
from cahp.terminal.printing import list_notes
from cahp.values import Estimate

#: What the outcomes of a protocol are called, in their order; others have the words of every evaluation.
_LABELS = {
    "word_perplexity": "word perplexity",
    "byte_perplexity": "byte perplexity",
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity of a token",
    "nll": "loss of a token (nats)",
    "nll_rise": "rise of the loss (nats)",
    "kl": OUTCOMES["kl"].row_label,
    "agreement": OUTCOMES["agreement"].row_label,
}
#: Those that are given without a mask too.
_OF_FULL = ("word_perplexity", "byte_perplexity", "bits_per_byte", "perplexity", "nll")


def perplexity_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Return the result of ``cahp evaluate --protocol`` as lines of text."""
    kept = document["kept"]
    heads = "all heads"
    if kept is not None:
        heads = f"{kept['heads']} of {kept['of']} heads"
    yield f"{document['model']} on {document['data']['id']}: {heads}"
    yield ""
    protocol = document["protocol"]
    yield f"  {protocol['name']}: {protocol['reference']}"
    yield f"  {describe_text(protocol)}"
    states = {state: outcomes for state, outcomes in document["outcomes"].items() if outcomes is not None}
    yield f"  {document['data']['split']:<40}" + "".join(f"{state:>22}" for state in states)
    for name, label in _LABELS.items():
        estimates = [outcomes.get(name) for outcomes in states.values()]
        if states.keys() == {"full"} and name not in _OF_FULL:
            continue
        if any(estimates):
            yield f"  {label:<40}" + "".join(f"{_write(one):>22}" for one in estimates)
        if any(one is not None and one.ci95 is not None for one in estimates):
            yield f"  {'  95 % interval':<40}" + "".join(f"{_write_interval(one):>22}" for one in estimates)
    yield from list_notes(document["notices"], document["test_opened"])


def describe_text(protocol: Mapping[str, Any]) -> str:
    """Describe what was evaluated, and how it was cut."""
    part = "all"
    if not protocol["whole"]:
        part = "the first"
    overlap = "without overlap"
    if protocol["stride"] != protocol["window"]:
        overlap = f"{protocol['stride']:,} apart"
    documents = ""
    if protocol["documents"] > 1:
        documents = f" of {protocol['documents']:,} {protocol['form']}"
    return f"{part} {protocol['tokens']:,} tokens{documents}, in windows of {protocol['window']:,} tokens {overlap}"


def _write(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if estimate.unit == "number":
        return f"{estimate.value:,.3f}"
    return estimate.text


def _write_interval(estimate: Estimate | None) -> str:
    if estimate is None or estimate.ci95 is None:
        return ""
    if estimate.unit == "number":
        return f"[{estimate.low:,.3f}, {estimate.high:,.3f}]"
    return estimate.interval
