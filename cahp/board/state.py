"""The board: a budget or a mask made by hand, and the way back. It knows no model, no work and no screen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cahp.cards import ModelCard
from cahp.run.settings import Settings
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.head_clusters import HeadClusters
from cahp.values import HeadMask, MaskError, Selection

#: Changes that can be undone.
_REMEMBERED = 100


@dataclass(frozen=True, eq=False)
class Choices:
    """What a budget keeps of a model under some settings; without ``clusters`` and ``table`` no run was made yet."""

    card: ModelCard
    settings: Settings
    clusters: HeadClusters | None = None
    table: BudgetTable | None = None

    @property
    def suggested(self) -> Selection | None:
        """What the curve's knee suggests (None: it has none, or there is no curve yet)."""
        return None if self.clusters is None else self.clusters.suggested(self.settings)

    def of_budget(self, budget: int | None) -> Selection | None:
        """What is kept at ``budget``, or at the nearest that there is; None asks for the suggestion, or a middle."""
        table = self.table
        if table is None:
            return None
        if budget is None:
            return self.suggested or table.selection(table.budgets[len(table.budgets) // 2])
        return table.selection(min(max(budget, table.budgets[0]), table.budgets[-1]))

    def check(self, mask: HeadMask) -> None:
        """Check that a mask made by hand can be on the board.

        Raises:
            MaskError: If it has another shape than the model, or empties a layer although the floor is above 0.
        """
        card = self.card
        if (mask.layers, mask.heads) != (card.layers, card.heads):
            raise MaskError(
                f"The mask is for {mask.layers} x {mask.heads} heads, but {card.id} has {card.layers} x "
                f"{card.heads}; choose a mask that was made for this model."
            )
        if mask.empty_layers and self.settings.min_per_layer > 0:
            raise MaskError(
                f"Layer {mask.empty_layers[0]} would keep no head. A layer without heads cannot be cut out; "
                "set the floor to 0 to try it as a mask only."
            )
        if mask.count == 0:
            raise MaskError("At least one head must stay.")


@dataclass(frozen=True)
class _Position:
    """What was put on the board: a budget (None: what the curve suggests), or a mask made by hand from it."""

    budget: int | None = None
    hand: HeadMask | None = None


class Board:
    """The mask on the board and how it came there.

    ``choices`` says what budgets keep now: the settings change under the board, and what was put on it stays. It begins
    with ``mask``, or with what the curve suggests.
    """

    def __init__(self, choices: Callable[[], Choices], *, mask: HeadMask | None = None) -> None:
        self._choices = choices
        self._position, self._past = _Position(), list[_Position]()
        if mask is not None and mask.sha256 != self.mask.sha256:
            table = choices().table
            there = table is not None and table.has(mask)
            self._position = _Position(mask.count) if there else _Position(hand=mask)

    # What is on it -------------------------------------------------------------------------------------------

    @property
    def by_hand(self) -> bool:
        """Whether the mask was made by hand."""
        return self._position.hand is not None

    @property
    def auto(self) -> bool:
        """Whether it is the curve's suggestion."""
        return self._position == _Position()

    @property
    def selection(self) -> Selection | None:
        """How the mask came about, unless it was made by hand."""
        return None if self.by_hand else self._choices().of_budget(self._position.budget)

    @property
    def mask(self) -> HeadMask:
        """The mask: of the budget, or made by hand; all heads before the first run."""
        if self._position.hand is not None:
            return self._position.hand
        selection, card = self.selection, self._choices().card
        return HeadMask.full(card.layers, card.heads) if selection is None else selection.mask

    @property
    def asked(self) -> int | None:
        """The budget that was asked for (None: what the curve suggests); before the first run it waits."""
        return self._position.budget

    @property
    def budget(self) -> int:
        """How many heads the mask keeps."""
        return self.mask.count

    @property
    def labels(self) -> NDArray[np.int64]:
        """The cluster of each head ``(N,)``, at as many clusters as the budget pays for.

        Raises:
            ValueError: If there are no clusters, before the first run.
        """
        choices = self._choices()
        if choices.clusters is None:
            raise ValueError("there are no clusters before the first run")
        # By hand: the clusters are those of the budget that the mask was made from.
        selection = choices.of_budget(self._position.budget)
        return choices.clusters.groups(self.budget if selection is None or selection.k is None else selection.k)[0]

    # What a person does on it --------------------------------------------------------------------------------

    def set_budget(self, budget: int | None) -> None:
        """Put a budget on the board; None is what the curve suggests."""
        self._put(_Position(budget))

    def set_mask(self, mask: HeadMask) -> None:
        """Put a mask of one's own on the board.

        Raises:
            MaskError: If it has another shape than the model, or empties a layer although the floor is above 0.
        """
        self._choices().check(mask)
        self._put(_Position(self._position.budget, mask))

    def toggle(self, head: int) -> None:
        """Drop a kept head, or bring a pruned one back."""
        keep = self.mask.keep.copy()
        keep.flat[head] = not keep.flat[head]
        self.set_mask(HeadMask(keep))

    def reset(self) -> None:
        """Back from a mask made by hand to the budget it was made from."""
        self._put(_Position(self._position.budget))

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._past)

    def undo(self) -> None:
        """Take the last change back."""
        if self._past:
            self._position = self._past.pop()

    def _put(self, position: _Position) -> None:
        if position != self._position:
            self._past = [*self._past[1 - _REMEMBERED :], self._position]
            self._position = position
