"""Results of experiments that ship with the package: claims on Compare.

``cahp experiment NAME`` measures them, and writes what is shown into its document: a ``status``, ``lines``, ``texts``
and ``tables``.
"""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cahp import models
from cahp.show import Blocks, Claim, Line, Table, Text
from cahp.values import Fields

if TYPE_CHECKING:
    from cahp.comparison import ComparisonDocument


def premise_folder() -> Path:
    """The folder of the bundled tests of the premise."""
    return models.assets() / "premise"


def find_premise(comparison: ComparisonDocument) -> Claim:
    """Return whether heads of one cluster are redundant, for the model and the data of a comparison."""
    title = "Premise: heads of one cluster are redundant"
    model = comparison.model.id
    data = comparison.data.id
    for file in premise_folder().glob("*.json"):
        document = json.loads(file.read_text(encoding="utf-8"))
        if (document["model"], document["data"]) == (model, data):
            shown = document["shown"]
            return Claim("premise", title, shown["status"], partial(_show, shown))
    return _offer("premise", title, "--model", model, "--data", data)


def find_peers(comparison: ComparisonDocument) -> Claim | None:
    """Return how else the cache of a comparison's model can be made smaller (None: it has none)."""
    if comparison.protocols is None:
        return None
    title = "Other ways to shrink the cache"
    shown = read_peers(comparison.model.id, comparison.model.sha256)
    if shown is None:
        return _offer("peers", title, comparison.model.id)
    return Claim("peers", title, shown["status"], partial(_show, shown))


def read_peers(model: str, sha256: str) -> Fields | None:
    """Read what is shown of the bundled peers of exactly this model; None if there are none."""
    file = models.assets() / "compare" / model / "peers.json"
    if model not in models.BUILTINS or not file.is_file():
        return None
    document = json.loads(file.read_text(encoding="utf-8"))
    shown: Fields = document["shown"]
    return shown if document["sha256"] == sha256 else None


def _show(shown: Fields) -> Blocks:
    yield from map(Line, shown["lines"])
    yield from map(Text, shown["texts"])
    for table in shown["tables"]:
        yield Table(**table)


def _offer(name: str, title: str, *words: str) -> Claim:
    command = shlex.join(("cahp", "experiment", name, *(word[:200] for word in words)))
    return Claim(name, title, "not measured", lambda: [Text(f"Not measured yet; this command measures it: {command}")])
