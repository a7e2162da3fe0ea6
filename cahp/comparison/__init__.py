"""Compare methods of selecting heads: one start, the same budgets, seeds and recoveries for all.

A finished ``Comparison`` is read, summarised and drawn without torch; ``cahp.comparison.running`` makes one.
"""

from cahp.comparison.document import SCHEMA as SCHEMA, ComparisonDocument as ComparisonDocument
from cahp.comparison.plan import Plan as Plan, make_plan as make_plan
from cahp.comparison.result import Comparison as Comparison, SplitResults as SplitResults
from cahp.comparison.summary import summarise as summarise
