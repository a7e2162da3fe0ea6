"""The content of ``run.json`` as the fields of a ``RunDocument``, also of files without ``outcomes``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cahp.outcomes import STATES, from_metrics
from cahp.run.mix import NO_MIX
from cahp.run.settings import PUBLISHED_LENGTH


def read_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a run's file with the fields of ``RunDocument``; earlier files have no ``outcomes``."""
    content = _Section(content)
    native = {**content, "outcomes": _outcomes_of(content)}
    if content.get("protocol") is None:
        # Earlier versions cut texts at this length, and had no option for it.
        native["settings"] = {"max_length": PUBLISHED_LENGTH, **content["settings"]}
    else:
        # Earlier files do not name the windows that begin with the beginning token: it was the first alone. Nor do they
        # name a calibration mix: there was none.
        begins = content["protocol"].get("begins", "first")
        native["settings"] = {"bos": begins, "mix": NO_MIX, **content["settings"]}
    ratio = content["latency_ratio"]
    if ratio is not None:
        native["latency_ratio"] = {"value": ratio["median"], "ci95": ratio["ci95"], "n": 0, "unit": "ratio"}
    if content.get("report") is not None:
        report = content["report"]
        native["report"] = {**report, "outcomes": _outcomes_of(report)}
    native["steps"] = [_native_step(_Section(step, "steps.")) for step in content.get("steps", ())]
    return native


class _Section(dict[str, Any]):
    """A section of a file; a missing field raises ``KeyError`` with its path, such as ``metrics.full.n``."""

    def __init__(self, content: Mapping[str, Any], place: str = "") -> None:
        super().__init__(content)
        self._place = place

    def __getitem__(self, name: str) -> Any:
        path = self._place + name
        if name not in self:
            raise KeyError(path)
        value = super().__getitem__(name)
        if not isinstance(value, dict):
            return value
        return _Section(value, f"{path}.")


def _outcomes_of(content: Mapping[str, Any]) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    if "outcomes" in content:
        for state, outcomes in content["outcomes"].items():
            if outcomes is not None and state in STATES:
                measured[state] = {name: estimate for name, estimate in outcomes.items() if estimate is not None}
        return measured
    for state in STATES:
        metrics = content["metrics"][state]
        change = None
        if state != "full":
            change = content["delta"][state]
        if metrics is not None:
            measured[state] = {name: vars(estimate) for name, estimate in from_metrics(metrics, change).items()}
    return measured


def _native_step(step: Mapping[str, Any]) -> dict[str, Any]:
    if "outcomes" in step:
        return dict(step)
    gained = step["gained"]
    outcomes = from_metrics(step["metrics"], step["delta"])
    if gained is not None:
        gained = {"value": gained["pp"], "ci95": gained["ci95"], "n": outcomes["accuracy"].n, "unit": "points"}
    return {**step, "outcomes": {name: vars(estimate) for name, estimate in outcomes.items()}, "gained": gained}


def describe_error(error: Exception) -> str:
    """Describe what is wrong with a file, from its reader's error."""
    if isinstance(error, KeyError):
        return f"The run lacks {error.args[0]}"
    missing = re.fullmatch(r"Object missing required field `(\w+)`(?: - at `\$\.(.+)`)?", str(error))
    if missing is None:
        return f"The run is broken ({error})"
    return f"The run lacks {'.'.join(part for part in (missing[2], missing[1]) if part)}"
