"""What a visitor has to be shown: the figures of the budget that they asked for, and of no other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cahp import bundled
from cahp.board import Shown, contents
from cahp.comparison import Reading
from cahp.comparison.sentences import AFTER, phrase
from cahp.ui.session.results import Results

Verdict = Literal["right", "wrong", "another's"]

#: What a board says of a budget beside its figures: how it came there, and words.
_ASIDE = ("origin", "note", "covers")


@dataclass(frozen=True)
class Truth:
    """What boards show at each budget, and what the Compare page says at each of its numbers of heads."""

    boards: Mapping[int, Mapping[str, Any]]
    headings: Mapping[int, str]

    @classmethod
    def bundled(cls) -> Truth:
        """What an explorer shows that has measured nothing itself: the finished results that ship.

        Raises:
            ValueError: If this copy of the package ships none.
        """
        shipped = bundled.read()
        if shipped is None:
            raise ValueError("this copy of the package ships no finished run to check against")
        settings = bundled.SETTINGS
        results = Results(shipped.document, shipped.arrays, bundle=shipped)
        clusters, table = results.clusters(settings), results.table(settings)
        assert clusters is not None
        assert table is not None
        boards = {}
        for selection in table.selections:
            mask = selection.mask
            shown = Shown(mask, "budget", results.quality(mask), results.speed(mask), rescued=selection.rescued)
            labels, _ = clusters.groups(mask.count)
            boards[mask.count] = _figures(contents(table, clusters, shown, labels=labels)["current"])
        found, _ = bundled.comparisons(bundled.comparisons_folder())
        return cls(boards, _headings([one.comparison.reading for one in found], shipped.document.model.sha256))

    def board(self, current: Mapping[str, Any], asked: int, others: Collection[int]) -> Verdict:
        """What to think of a board that shows ``current`` to somebody who asked for a budget, as ``others`` did."""
        said = _figures(current)
        if said == self.boards[asked]:
            return "right"
        return "another's" if any(said == self.boards[other] for other in others) else "wrong"

    def compared(self, shown: str, asked: int, others: Collection[int]) -> Verdict:
        """What to think of a Compare page whose headings are ``shown`` to somebody who asked for so many heads."""
        if self.headings[asked] in shown:
            return "right"
        return "another's" if any(self.headings[other] in shown for other in others) else "wrong"


def _figures(current: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in current.items() if name not in _ASIDE}


def _headings(readings: list[Reading], model: str) -> dict[int, str]:
    """The finding over the differences at each number of heads of the comparison that the page opens with."""
    same = [found for found in readings if found.model_sha256 == model]
    if not readings:
        return {}
    found = max(same or readings, key=lambda one: len(one.means))
    recovery = found.by_cost[0]
    tests = {
        budget: [one for one in found.verdicts if (one.recovery, one.budget) == (recovery, budget)]
        for budget in found.budgets
    }
    return {
        budget: f"At {budget} heads, {AFTER[recovery]}, {phrase(found.against, at)}"
        for budget, at in tests.items()
        if at
    }
