"""Compare methods of selecting heads: one start, the same budgets, seeds and recoveries for all.

A finished ``Comparison`` is read, summarised and drawn without torch; ``compare`` makes one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cahp.comparison.document import SCHEMA
from cahp.comparison.plan import PRESETS, Plan, make_plan
from cahp.comparison.result import Comparison
from cahp.comparison.split_results import SplitResults
from cahp.comparison.summary import summarise

if TYPE_CHECKING:
    from cahp.comparison.running import ComparisonCost, compare

__all__ = [
    "PRESETS",
    "SCHEMA",
    "Comparison",
    "ComparisonCost",
    "Plan",
    "SplitResults",
    "compare",
    "make_plan",
    "summarise",
]


def __getattr__(name: str) -> Any:
    # Reading a comparison must not import torch.
    if name not in ("ComparisonCost", "compare"):
        raise AttributeError(f"module 'cahp.comparison' has no attribute {name!r}")
    return getattr(import_module("cahp.comparison.running"), name)
