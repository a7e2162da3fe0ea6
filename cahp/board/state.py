"""The mask on a board: a budget's or a person's own, with Undo. It knows no model, no jobs and no screen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cahp.board.budget_sweep import BudgetTable
from cahp.board.head_clusters import HeadClusters
from cahp.models.cards import ModelCard
from cahp.run.settings import Settings
from cahp.stages.selection import middle_budget
from cahp.values import HeadMask, Ints, MaskError, Selection

#: How the mask of a board was chosen whose curve has no knee.
_UNCLEAR = "no clear choice"
#: Changes that can be undone.
_REMEMBERED = 100


@dataclass(frozen=True, eq=False)
class Choices:
    """The heads that budgets keep under some settings; before the first run it has no ``clusters`` and ``table``."""

    card: ModelCard
    settings: Settings
    clusters: HeadClusters | None = None
    table: BudgetTable | None = None

    @property
    def suggested(self) -> Selection | None:
        """The selection at the knee of the silhouette curve (None: there is no knee, or no curve yet)."""
        if self.clusters is None:
            return None
        return self.clusters.suggested(self.settings)

    def of_budget(self, budget: int | None) -> Selection | None:
        """Return the selection at ``budget`` or the nearest possible one; for None the suggested one, or half."""
        table = self.table
        if table is None:
            return None
        if budget is None:
            return self.suggested or table.selection(middle_budget(table.budgets))
        return table.nearest(budget)

    def check(self, mask: HeadMask) -> None:
        """Check that a person's own mask can be on the board.

        Raises:
            MaskError: If its shape differs from the model's, or a layer is empty and the per-layer minimum is above 0.
        """
        mask.check_fits(self.card.layers, self.card.heads, self.card.id)
        floor = np.broadcast_to(self.settings.budget_rules(mask).minimum, mask.layers)
        for layer in mask.empty_layers:
            if floor[layer] > 0:
                raise MaskError(
                    f"Layer {layer} would keep no head, and the per-layer minimum is {floor[layer]}. Keep one head, or "
                    "set the minimum to 0."
                )
        if mask.count == 0:
            raise MaskError("The mask keeps no head. Keep at least one.")


@dataclass(frozen=True)
class _Position:
    """A position on the board: a budget (None: the suggested one), or a mask made by hand from it.

    ``method`` is another method that chose such a mask (empty: a person did).
    """

    budget: int | None = None
    hand: HeadMask | None = None
    method: str = ""


class Board:
    """The mask on the board, and the positions before it.

    ``choices`` returns the heads that budgets keep at the moment: settings may change while the position stays. The
    board starts with ``mask``, or with the ``budget`` (None: the suggested one).
    """

    def __init__(
        self, choices: Callable[[], Choices], budget: int | None = None, *, mask: HeadMask | None = None
    ) -> None:
        self._choices = choices
        self._position = _Position(budget)
        self._past: list[_Position] = []
        if mask is not None and mask.sha256 != self.mask.sha256:
            self._position = self._locate(mask)

    # Its state -----------------------------------------------------------------------------------------------

    @property
    def by_hand(self) -> bool:
        """Whether the mask was made by hand, or chosen by another method."""
        return self._position.hand is not None

    @property
    def method(self) -> str:
        """The other method that chose the mask (empty: none did)."""
        return self._position.method

    @property
    def auto(self) -> bool:
        """Whether it is the suggested budget."""
        return self._position == _Position()

    @property
    def origin(self) -> str:
        """How the mask was chosen: the suggested budget, another one, by hand, or the words of ``_UNCLEAR``."""
        if self.by_hand:
            return "hand"
        if not self.auto:
            return "budget"
        if self._choices().suggested is None:
            return _UNCLEAR
        return "auto"

    @property
    def selection(self) -> Selection | None:
        """The selection of the mask, unless it was made by hand."""
        if self.by_hand:
            return None
        return self.start

    @property
    def mask(self) -> HeadMask:
        """The mask; before the first run it keeps all heads."""
        if self._position.hand is not None:
            return self._position.hand
        selection = self.selection
        if selection is not None:
            return selection.mask
        return self._choices().card.full_mask

    @property
    def start(self) -> Selection | None:
        """The selection of the budget, from which a mask made by hand was made (None: before the first run)."""
        return self._choices().of_budget(self._position.budget)

    @property
    def rescued(self) -> Sequence[int]:
        """The heads added by the per-layer minimum, as flat indices."""
        return () if self.selection is None else self.selection.rescued

    @property
    def requested(self) -> int | None:
        """The requested budget (None: the suggested one), also before the first run."""
        return self._position.budget

    @property
    def budget(self) -> int:
        """How many heads the mask keeps."""
        return self.mask.count

    @property
    def labels(self) -> Ints:
        """The cluster of each head ``(N,)``; there are as many clusters as the budget has representatives.

        Raises:
            ValueError: If there are no clusters, before the first run.
        """
        clusters = self._choices().clusters
        start = self.start
        if clusters is None or start is None:
            raise ValueError("there are no clusters before the first run")
        # A mask made by hand has the clusters of the budget that it was made from.
        return clusters.groups(start.k or self.budget)[0]

    # Changes -------------------------------------------------------------------------------------------------

    def set_budget(self, budget: int | None) -> None:
        """Show a budget; None is the suggested one."""
        self._put(_Position(budget))

    def set_mask(self, mask: HeadMask, *, method: str = "") -> None:
        """Show a person's own mask, or one that another ``method`` has chosen.

        Raises:
            MaskError: If its shape differs from the model's, or a layer is empty and the per-layer minimum is above 0.
        """
        self._choices().check(mask)
        self._put(_Position(self._position.budget, mask, method))

    def restore_mask(self, mask: HeadMask, budget: int | None) -> None:
        """Show the mask of a link; one that no budget keeps was made by hand from ``budget`` (None: the suggested one).

        Raises:
            MaskError: As ``set_mask`` does.
        """
        self._choices().check(mask)
        self._put(self._locate(mask, budget))

    def _locate(self, mask: HeadMask, budget: int | None = None) -> _Position:
        table = self._choices().table
        if table is not None and table.has(mask):
            return _Position(mask.count)
        return _Position(budget, mask)

    def toggle(self, head: int) -> None:
        """Remove a kept head, or restore a pruned one."""
        keep = self.mask.keep.copy()
        keep.flat[head] = not keep.flat[head]
        self.set_mask(HeadMask(keep))

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return bool(self._past)

    def undo(self) -> None:
        """Undo the last change."""
        if self._past:
            self._position = self._past.pop()

    def _put(self, position: _Position) -> None:
        if position != self._position:
            self._past = [*self._past[1 - _REMEMBERED :], self._position]
            self._position = position
