"""Fields of a comparison file: the outcomes of a cell, and the conversion of JSON to typed values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cahp.files import plain_json
from cahp.outcomes import OUTCOMES, Outcomes, from_metrics, list_further, to_delta, to_metrics
from cahp.values import Estimate

#: The change in accuracy against the full model after the same recovery, if the recovery changes the full model.
CHANGE_ALIKE = "accuracy_change_alike"
T = TypeVar("T")


def to_quality(outcomes: Outcomes) -> dict[str, Any]:
    """Return outcomes as a cell's ``eval`` and ``report`` hold them."""
    alike = {}
    if CHANGE_ALIKE in outcomes:
        alike["accuracy_change"] = outcomes[CHANGE_ALIKE]
    further: dict[str, float | None] = {}
    for name in list_further():
        if name in outcomes:
            further[name] = outcomes[name].value
        elif OUTCOMES[name].needs != "tokens":
            # A classifier has no fields of language models.
            further[name] = None
    changes = {"delta": to_delta(outcomes), "delta_alike": to_delta(alike)}
    return dict(plain_json({**to_metrics(outcomes), **changes, **further}))


def from_quality(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``to_quality`` wrote as fields of estimates.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: If a field is missing or malformed.
    """
    outcomes = from_metrics(quality, quality["delta"])
    alike = quality.get("delta_alike")
    if alike is not None:
        outcomes[CHANGE_ALIKE] = from_metrics(quality, alike)["accuracy_change"]
    # Older files lack them.
    for name in list_further():
        if quality.get(name) is not None:
            outcomes[name] = Estimate(quality[name], None, quality["n"], OUTCOMES[name].unit)
    return {name: vars(estimate) for name, estimate in outcomes.items()}


def convert(data: object, cls: type[T], read_rows: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]) -> T:
    """Convert JSON to ``cls``, after ``read_rows`` has read the rows of some fields."""
    import msgspec

    try:
        content: dict[str, Any] = dict(data)  # type: ignore[call-overload]
        for name, read_row in read_rows.items():
            content[name] = [read_row(row) for row in content[name]]
        return msgspec.convert(content, cls)
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error)) from None
