"""Texts to begin with: they ship with the package."""

from __future__ import annotations

import json
from typing import Literal

from cahp import models


def examples(kind: Literal["single", "pairs"]) -> list[dict[str, str]]:
    """Example texts by ``name``: each a ``text``, or the ``first`` and ``second`` of a pair."""
    found: list[dict[str, str]] = json.loads((models.assets() / "examples" / f"{kind}.json").read_text("utf-8"))
    return found
