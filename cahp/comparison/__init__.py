"""Compare methods of selecting heads: one start, the same budgets, seeds and recoveries for all.

A finished ``Comparison`` is read, summarised and drawn without torch; ``compare`` makes one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cahp.comparison.document import SCHEMA
from cahp.comparison.plan import PRESETS, Plan, make_plan, parse_seeds
from cahp.comparison.result import Comparison
from cahp.comparison.split_results import SplitResults
from cahp.comparison.summarising import summarise

if TYPE_CHECKING:
    from cahp.comparison.cost import ComparisonCost
    from cahp.comparison.running import compare

__all__ = [
    "PRESETS",
    "SCHEMA",
    "Comparison",
    "ComparisonCost",
    "Plan",
    "SplitResults",
    "compare",
    "make_plan",
    "parse_seeds",
    "summarise",
]

_HOMES = {"ComparisonCost": "cost", "compare": "running"}


def __getattr__(name: str) -> Any:
    # Reading a comparison must not import torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'cahp.comparison' has no attribute {name!r}")
    return getattr(import_module(f"cahp.comparison.{_HOMES[name]}"), name)
