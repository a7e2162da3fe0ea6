"""The primary test of a comparison: a rule names it before anything is measured, and all other tests are descriptive.

The rule knows the plan alone: which outcomes, recoveries and budgets are measured, not what they give.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from cahp.comparison.document import list_tested
from cahp.recoveries import NONE, QUICK

#: The area is over budgets of up to this share of the heads, where at least two were measured.
HEADLINE = 0.2


class Endpoint(NamedTuple):
    """The outcome, recovery and budgets of the primary test; several budgets stand for the area over them."""

    outcome: str
    recovery: str
    budgets: tuple[int, ...]


def choose_recovery(recoveries: Collection[str]) -> str:
    """The recovery of the primary test: the refit; without one, the pruned model as it is."""
    if QUICK.name in recoveries:
        return QUICK.name
    return NONE.name


def choose_endpoint(outcomes: Collection[str], recovery: str, budgets: Collection[int], total: int) -> Endpoint:
    """Choose the primary test after ``recovery``, where ``budgets`` of ``total`` heads are measured.

    Its outcome is the first of ``TESTED`` among ``outcomes``: the KL divergence, or in older files what they have. It
    is the area over the budgets of up to 20 % of the heads; without two of them it is the smallest budget.
    """
    small = sorted({budget for budget in budgets if budget <= HEADLINE * total})
    if len(small) < 2:
        small = sorted(budgets)[:1]
    return Endpoint(list_tested(outcomes)[0], recovery, tuple(small))
