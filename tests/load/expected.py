"""What an explorer that has measured nothing itself has to show at each budget: the finished results that ship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cahp.api import bundled
from cahp.board import Shown, contents
from cahp.comparison import SplitResults
from cahp.comparison.sentences import after, ahead_and_behind
from cahp.ui.session.results import Results

#: Fields of a board that say how a mask came about, and words.
_ASIDE = ("origin", "note", "covers")


def figures(current: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the mask that a board shows."""
    return {name: value for name, value in current.items() if name not in _ASIDE}


def boards() -> dict[int, dict[str, Any]]:
    """The figures of the bundled run at each budget."""
    shipped = bundled.read_run()
    assert shipped is not None
    results = Results(shipped.document, shipped.arrays, bundle=shipped)
    clusters, table = results.clusters(bundled.SETTINGS), results.table(bundled.SETTINGS)
    assert clusters is not None
    assert table is not None
    expected = {}
    for selection in table.selections:
        mask = selection.mask
        shown = Shown(mask, "budget", results.outcomes(mask), results.speed(mask), rescued=selection.rescued)
        labels, _ = clusters.groups(mask.count)
        expected[mask.count] = figures(contents(table, clusters, shown, labels=labels)["current"])
    return expected


def headings() -> dict[int, str]:
    """The heading over the differences of the Compare page at each number of heads of its first comparison."""
    shipped = bundled.read_run()
    assert shipped is not None
    opened, _ = bundled.read_comparisons(bundled.comparisons_folder())
    readings: list[SplitResults] = [one.comparison.results for one in opened]
    same = [reading for reading in readings if reading.document.model.sha256 == shipped.document.model.sha256]
    reading = max(same or readings, key=lambda one: len(one.means))
    recovery = reading.by_cost[0]
    tests = {
        budget: [one for one in reading.verdicts if (one.recovery, one.budget) == (recovery, budget)]
        for budget in reading.budgets
    }
    return {
        budget: f"At {budget} heads, {after(recovery)}, {ahead_and_behind(reading.against, at)}"
        for budget, at in tests.items()
        if at
    }
