"""Methods that choose by the place of a head in the tiny model, so that every choice is known beforehand."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from cahp.comparison import Plan
from cahp.methods.shared.registry import Evidence
from cahp.models.cards import SelectionCost
from cahp.run.settings import Settings
from cahp.stages.selection import top
from cahp.values import Selection

LAYERS, HEADS = 3, 4


class Counted:
    """Keeps the heads of lowest index, and counts how often it is asked."""

    name = "counted"
    needs_budget = True
    asked: ClassVar[list[tuple[int, int]]] = []

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        self.asked.append((evidence.seed, budget))
        return top(-np.arange(12.0).reshape(LAYERS, HEADS), budget=budget, min_per_layer=min_per_layer)


class Tossed(Counted):
    """Pure chance."""

    name = "tossed"
    draws = 5

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        self.asked.append((evidence.seed, budget))
        scores = np.random.default_rng(evidence.seed).random((LAYERS, HEADS))
        return top(scores, budget=budget, min_per_layer=min_per_layer)


class Tuned(Counted):
    """Has settings: which end of the heads to keep."""

    name = "tuned"
    tries: Sequence[Mapping[str, Any]] = ({}, {"end": "last"}, {"end": "middle"})

    def __init__(self, *, end: str = "first") -> None:
        self._end = end

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        places = np.arange(12.0).reshape(LAYERS, HEADS)
        scores = {"first": -places, "last": places, "middle": -np.abs(places - 5.5)}[self._end]
        return top(scores, budget=budget, min_per_layer=min_per_layer)

    def estimate_cost(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        return SelectionCost(len(evidence.texts), 7)


class Failing(Counted):
    """Fails at one budget."""

    name = "failing"

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        if budget == 4:
            raise ZeroDivisionError("no such budget")
        return super().choose(evidence, budget=budget, min_per_layer=min_per_layer)


class Stingy(Counted):
    """Keeps one head fewer than asked."""

    name = "stingy"

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        return super().choose(evidence, budget=budget - 1, min_per_layer=min_per_layer)


METHODS = (Counted, Tossed, Tuned, Failing, Stingy)


def plan(settings: Settings, *names: str, **options: Any) -> Plan:
    given = {"methods": names, "budgets": ("4", "6"), "seeds": (42, 43), **options}
    return Plan(settings, **given)
