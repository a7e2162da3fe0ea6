"""Methods of choosing heads, compared fairly: one start, the same budgets, seeds and recoveries for all.

A finished ``Comparison`` is read, summarised and drawn without torch; ``compare`` makes one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cahp.comparison.document import SCHEMA
from cahp.comparison.plan import PRESETS, Plan, parse_seeds
from cahp.comparison.reading import Reading
from cahp.comparison.result import Comparison
from cahp.comparison.summarising import summarise

if TYPE_CHECKING:
    from cahp.comparison.estimate import Estimate
    from cahp.comparison.running import compare

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
        raise AttributeError(f"module 'cahp.comparison' has no attribute {name!r}")
    return getattr(import_module(f"cahp.comparison.{_HOMES[name]}"), name)
