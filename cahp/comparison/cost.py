"""The cost of a comparison, before it begins: counted in forward passes, timed with one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cahp.comparison.cells import MeasuredCell, list_missing, selection_cost
from cahp.comparison.plan import FULL, Cell
from cahp.comparison.workspace import Workspace
from cahp.recoveries import RECOVERIES
from cahp.registry import Evidence
from cahp.values import CahpError


@dataclass(frozen=True)
class ComparisonCost:
    """The estimated cost of a comparison.

    ``cells`` are all masks, of which ``cached`` are in the store. ``forwards`` are forward passes of one text through
    the full model for the others, ``choosing`` those of them that select heads (methods that state no cost count as 0).
    ``minutes`` follow from the measured time of a pass, ``forward_ms``.
    """

    cells: int
    cached: int
    forwards: float
    choosing: float
    forward_ms: float
    minutes: float

    def as_json(self) -> dict[str, Any]:
        """The ``estimate`` of a comparison file."""
        return {"known" if name == "cached" else name: value for name, value in vars(self).items()}


def estimate_cost(
    cells: Sequence[Cell], passes: Mapping[Cell, tuple[float, float]], full: MeasuredCell, *, workers: int
) -> ComparisonCost:
    """Estimate the cost of ``cells``, of which those in ``passes`` are to be measured.

    ``full`` is the measured full model; its time tells how long a forward pass takes.

    Raises:
        CahpError: If the full model failed.
    """
    predictions = full.predictions.get(("none", "eval"))
    if predictions is None:
        raise CahpError(f"the full model could not be measured ({full.error}); try `cahp evaluate` first")
    seconds = predictions.seconds / len(predictions.evaluation)
    choosing = sum(to_choose for to_choose, _ in passes.values())
    total = choosing + sum(to_measure for _, to_measure in passes.values())
    return ComparisonCost(
        cells=len(cells),
        cached=sum(cell not in passes for cell in cells),
        forwards=total,
        choosing=choosing,
        forward_ms=seconds * 1000,
        minutes=total * seconds / 60 / workers,
    )


def count_passes(workspace: Workspace, cells: Sequence[Cell]) -> dict[Cell, tuple[float, float]]:
    """Count the forward passes that select and that measure each cell; evidence of a method counts once per seed."""
    counted: dict[tuple[str, int], float] = {}
    passes = {}
    for cell in cells:
        must_choose, to_predict = list_missing(workspace, cell)
        choosing = _selection_passes(workspace, cell) if must_choose else 0.0
        before = counted.get((cell.method, cell.seed), 0.0)
        # The evidence of a cheaper budget is reused at a more expensive one.
        counted[cell.method, cell.seed] = max(before, choosing)
        texts = len(workspace.bench(cell.seed).calibration)
        measuring = sum(
            RECOVERIES[recovery].passes(texts, can_refit=not workspace.card.no_refit)
            + sum(len(workspace.splits[split]) for split in splits)
            for recovery, splits in to_predict
        )
        passes[cell] = max(0.0, choosing - before), measuring
    return passes


def _selection_passes(workspace: Workspace, cell: Cell) -> float:
    if cell.method == FULL:
        return 0.0
    try:
        price = selection_cost(workspace, cell, cast(Evidence, workspace.bench(cell.seed).evidence))
    except Exception:
        # An estimate must not fail; the cell will report the error.
        return 0.0
    return 0.0 if price is None else float(price.forwards)
