"""The content of ``run.json`` as the fields of a ``RunDocument``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cahp.outcomes import STATES


def read_fields(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a run's file with the fields of ``RunDocument``."""
    content = _Section(content)
    native = {**content, "outcomes": _outcomes_of(content)}
    ratio = content["latency_ratio"]
    if ratio is not None:
        native["latency_ratio"] = {"value": ratio["median"], "ci95": ratio["ci95"], "n": 0, "unit": "ratio"}
    if content.get("report") is not None:
        report = content["report"]
        native["report"] = {**report, "outcomes": _outcomes_of(report)}
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
    for state, outcomes in content["outcomes"].items():
        if outcomes is not None and state in STATES:
            measured[state] = {name: estimate for name, estimate in outcomes.items() if estimate is not None}
    return measured


def describe_error(error: Exception) -> str:
    """Describe what is wrong with a file, from its reader's error."""
    if isinstance(error, KeyError):
        return f"The run lacks {error.args[0]}"
    missing = re.fullmatch(r"Object missing required field `(\w+)`(?: - at `\$\.(.+)`)?", str(error))
    if missing is None:
        return f"The run is broken ({error})"
    return f"The run lacks {'.'.join(part for part in (missing[2], missing[1]) if part)}"
