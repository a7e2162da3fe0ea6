"""Methods that are a score, and the budget that every method without a suggestion of its own cannot do without."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.costs import SelectionCost
from cahp.registry import Evidence
from cahp.stages.selection import top
from cahp.values import Floats, OptionError, Selection


class Scored(ABC):
    """A method that is a score: the heads of highest score stay."""

    name: str
    needs_budget = True
    tries: Sequence[Mapping[str, Any]] = ({},)

    @abstractmethod
    def score(self, evidence: Evidence) -> Floats:
        """How much each head matters, shape ``(L, H)``."""

    @abstractmethod
    def price(self, evidence: Evidence, *, budget: int) -> SelectionCost:
        """What choosing ``budget`` heads costs when nothing was measured before."""

    def choose(self, evidence: Evidence, *, budget: int | None, min_per_layer: int = 1) -> Selection:
        """Keep exactly ``budget`` heads.

        Raises:
            OptionError: Without a budget: a score alone suggests none.
            BudgetError: If no mask can meet it.
        """
        budget = spendable(budget, evidence, name=self.name, min_per_layer=min_per_layer)
        return top(self.score(evidence), budget=budget, min_per_layer=min_per_layer)


def spendable(budget: int | None, evidence: Evidence, *, name: str, min_per_layer: int) -> int:
    """The budget that the method ``name`` cannot do without.

    Asked before anything is measured: that can take minutes, and what cannot be spent is refused at once.

    Raises:
        OptionError: If there is none, or no layer has ``min_per_layer`` heads.
        BudgetError: If it is outside ``min_per_layer * L .. N``.
    """
    if budget is None:
        raise OptionError(f"{name} cannot suggest how many heads to keep; give a budget")
    top(np.zeros((evidence.card.layers, evidence.card.heads)), budget=budget, min_per_layer=min_per_layer)
    return budget


def by_layer(scores: Floats) -> NDArray[np.float64]:
    """Scores ``(L, H)`` divided by their L2 norm in each layer; a layer of zeros stays as it is."""
    norms = np.linalg.norm(scores, axis=1, keepdims=True)
    return np.asarray(scores / np.where(norms > 0, norms, 1.0))
