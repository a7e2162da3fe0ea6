"""Compare methods of selecting heads: one start, the same budgets, seeds and recoveries for all.

A finished ``Comparison`` is read, summarised and drawn without torch; ``cahp.comparison.running`` makes one.
"""

from cahp.comparison.document import SCHEMA, ComparisonDocument
from cahp.comparison.plan import Plan, make_plan
from cahp.comparison.result import Comparison, SplitResults
from cahp.comparison.summary import summarise

__all__ = ["PRESETS", "SCHEMA", "Comparison", "ComparisonDocument", "Plan", "SplitResults", "make_plan", "summarise"]
