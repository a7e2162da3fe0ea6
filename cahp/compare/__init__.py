"""Methods of choosing heads, compared fairly: one start, the same budgets, seeds and recoveries for all.

A finished ``Comparison`` is read, summarised and drawn without torch; ``compare`` makes one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cahp.compare.document import SCHEMA
from cahp.compare.plan import PRESETS, Plan, parse_seeds
from cahp.compare.reading import Reading
from cahp.compare.result import Comparison
from cahp.compare.summarising import summarise

if TYPE_CHECKING:
    from cahp.compare.estimate import Estimate
    from cahp.compare.running import compare

__all__ = [
    "PRESETS",
    "SCHEMA",
    "Comparison",
    "Estimate",
    "Plan",
    "Reading",
    "compare",
    "parse_seeds",
    "summarise",
]

_HOMES = {"Estimate": "estimate", "compare": "running"}


def __getattr__(name: str) -> Any:
    # Reading a comparison must not load what making one needs.
    if name not in _HOMES:
        raise AttributeError(f"module 'cahp.compare' has no attribute {name!r}")
    return getattr(import_module(f"cahp.compare.{_HOMES[name]}"), name)
