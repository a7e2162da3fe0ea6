"""Goals for a budget: one table of the properties that a pruned model is to keep, for options and screens.

A budget reaches a goal if the limit of its 95 % interval does, not only the value. A new goal is one row of ``GOALS``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cahp.outcomes import Outcomes
from cahp.values import BudgetError, Estimate, JsonObject, OptionError


@dataclass(frozen=True)
class GoalKind:
    """One row: the ``name`` in options, the ``label`` on screen, and the bound ``start + scale * amount``.

    ``words`` say of heads that they reach it, with ``{}`` for the amount.
    ``outcome`` is the measured outcome (None: what the cut model ``saves`` against the full one, of time or of its
    cache of keys and values). An amount is written with ``sign`` before and ``unit`` behind it; ``default``,
    ``highest`` and ``step`` are amounts on screen. With ``upper`` the upper limit of the interval must stay below the
    bound, else the lower one above it. A goal that a ``section`` of a run measures has no amount: what it counts must
    be 0.
    """

    name: str
    label: str
    words: str
    outcome: str | None = None
    scale: float = 0.0
    default: float = 0.0
    highest: float = 0.0
    step: float = 0.0
    start: float = 0.0
    sign: str = ""
    unit: str = ""
    upper: bool = False
    saves: Literal["", "time", "cache"] = ""
    section: str = ""


#: What all savings have in common.
_SAVED: JsonObject = {
    "scale": -0.01,
    "start": 1.0,
    "highest": 99.0,
    "step": 1.0,
    "sign": "-",
    "unit": "%",
    "upper": True,
}

#: All goals by name, in the order in which they are offered.
GOALS = {
    kind.name: kind
    for kind in (
        GoalKind(
            "agreement",
            "Agreement with the full model of at least (%)",
            "that keep at least {} % of the answers",
            "agreement",
            0.01,
            default=95.0,
            highest=100.0,
            step=1.0,
            unit="%",
        ),
        GoalKind(
            "kl",
            "KL divergence from the full model of at most (nats)",
            "that keep the KL divergence at or below {} nats",
            "kl",
            1.0,
            default=0.05,
            highest=10.0,
            step=0.01,
            upper=True,
        ),
        GoalKind(
            "accuracy-loss",
            "Accuracy lost of at most (points)",
            "that lose at most {} points of accuracy",
            "accuracy_change",
            -1.0,
            default=1.0,
            highest=100.0,
            step=0.5,
        ),
        GoalKind(
            "abilities",
            "No measurable ability lost",
            "that lose no measurable ability",
            upper=True,
            section="abilities",
        ),
        GoalKind(
            "time",
            "Time saved of at least (%)",
            "that save at least {} % of the time",
            **_SAVED,
            default=20.0,
            saves="time",
        ),
        GoalKind(
            "kv-cache",
            "Memory of the KV cache saved of at least (%)",
            "that save at least {} % of the KV cache",
            **_SAVED,
            default=30.0,
            saves="cache",
        ),
    )
}


@dataclass(frozen=True)
class ReachedGoal:
    """A goal as text, and the number of heads that reaches it, chosen among ``measured`` of ``budgets`` budgets.

    ``estimate`` comes from the texts that chose the number, so it is optimistic. ``confirmed`` tells whether the test
    split reaches the goal as well (None: it was not opened, or the goal is about savings).
    """

    goal: str
    heads: int
    estimate: Estimate
    measured: int
    budgets: int
    confirmed: bool | None = None

    @property
    def choice(self) -> str:
        """How the number was chosen, such as ``the fewest of 11 tried; the lower limit counts``."""
        goal = Goal.parse(self.goal)
        number = "fewest"
        if goal.wants_most:
            number = "most"
        words = f"the {number} of {self.measured} tried"
        if self.measured == 1:
            words = "the only number tried"
        if self.estimate.ci95 is None:
            return words
        limit = "lower"
        if goal.kind.upper:
            limit = "upper"
        return f"{words}; the {limit} limit counts"


@dataclass(frozen=True)
class Goal:
    """A goal: a row of ``GOALS`` and an amount."""

    kind: GoalKind
    amount: float

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read a goal such as ``agreement=95%``.

        Raises:
            OptionError: If it is none.
        """
        name, _, amount = (part.strip() for part in text.partition("="))
        kind = GOALS.get(name)
        match = None
        if kind is not None and kind.section and not amount:
            return cls(kind, kind.default)
        if kind is not None:
            match = re.fullmatch(rf"{kind.sign}([0-9]{{1,4}}(?:\.[0-9]{{1,6}})?)\s*{kind.unit}", amount)
        if kind is None or kind.section or match is None or float(match[1]) > kind.highest:
            examples = ", ".join(str(cls(kind, kind.default)) for kind in GOALS.values())
            raise OptionError(f'--goal: cannot read "{text}"; write one of {examples}')
        return cls(kind, float(match[1]))

    def __str__(self) -> str:
        if self.kind.section:
            return self.kind.name
        return f"{self.kind.name}={self.kind.sign}{self.amount:g}{self.kind.unit}"

    @property
    def words(self) -> str:
        """What it says of heads that reach it, such as ``that lose at most 1 points of accuracy``."""
        return self.kind.words.format(f"{self.amount:g}")

    @property
    def wants_most(self) -> bool:
        """Whether the most heads are wanted: each pruned head saves time and memory, and costs everything else."""
        return bool(self.kind.saves)

    @property
    def is_counted(self) -> bool:
        """Whether it is about memory, which is counted: it holds for all texts, and needs no measurement."""
        return self.kind.name == "kv-cache"

    def estimate(
        self, outcomes: Outcomes | None, *, time: Estimate | None = None, cache: Estimate | None = None
    ) -> Estimate | None:
        """Return the estimate that the goal is about (None: not measured), of outcomes or of a ratio to the full model.

        ``time`` is the ratio of times, and ``cache`` that of the bytes in a cache.
        """
        if self.kind.saves:
            return {"cache": cache, "time": time}[self.kind.saves]
        return (outcomes or {}).get(self.kind.outcome or "")

    def describe(self, estimate: Estimate) -> str:
        """Describe what was measured for the goal."""
        if self.kind.section:
            return f"{estimate.value:.0f} of {estimate.n} measurable {self.kind.section} lost"
        return str(estimate)

    def is_reached_by(self, estimate: Estimate) -> bool:
        """Tell whether the limit of the interval keeps the bound; a rounding error does not decide.

        A single text has no interval, so it shows nothing.
        """
        if estimate.ci95 is None and estimate.n == 1:
            return False
        return self._beyond(estimate) <= 1e-9

    def _beyond(self, estimate: Estimate) -> float:
        bound = self.kind.start + self.kind.scale * self.amount
        if self.kind.upper:
            return estimate.high - bound
        return bound - estimate.low

    def choose(self, estimates: Mapping[int, Estimate], budgets: int, *, unit: str = "head") -> ReachedGoal:
        """Return the fewest heads (for savings: the most) whose ``estimates`` reach the goal, of so many ``budgets``.

        ``unit`` is what a budget counts, in the singular.

        Raises:
            BudgetError: If none does, with the nearest.
        """
        if not estimates:
            raise BudgetError(f"{self} is not measured at any budget; measure more budgets, or choose another goal.")
        reached = [heads for heads, estimate in estimates.items() if self.is_reached_by(estimate)]
        if not reached:
            nearest = min(estimates, key=lambda heads: self._beyond(estimates[heads]))
            raise BudgetError(
                f"No measured budget reaches {self}; nearest are {nearest} {unit}s with "
                f"{self.describe(estimates[nearest])}. Choose a weaker goal or another recovery."
            )
        heads = min(reached)
        if self.wants_most:
            heads = max(reached)
        return ReachedGoal(str(self), heads, estimates[heads], len(estimates), budgets)
