"""What a comparison will cost, before it begins: counted in forward passes, timed with one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from cahp.comparison.benches import Benches
from cahp.comparison.cells import Measured, missing
from cahp.comparison.measuring import priced
from cahp.comparison.plan import FULL, Cell
from cahp.recoveries import RECOVERIES
from cahp.registry import Evidence
from cahp.values import CahpError


@dataclass(frozen=True)
class Estimate:
    """What a comparison will cost.

    ``cells`` of which ``cached`` are in the store; ``forwards`` passes of one text through the full model that the
    others take (None from a method that does not say counts as none), of which ``choosing`` are the methods' own;
    ``minutes``, from a measured pass of ``forward_ms``.
    """

    cells: int
    cached: int
    forwards: float
    choosing: float
    forward_ms: float
    minutes: float

    def as_json(self) -> dict[str, Any]:
        """As a comparison file holds it."""
        return {"known" if name == "cached" else name: value for name, value in vars(self).items()}


def estimate(
    cells: Sequence[Cell], passes: Mapping[Cell, tuple[float, float]], pace: Measured, *, workers: int
) -> Estimate:
    """What the ``cells`` of a comparison will cost, of which those in ``passes`` are to be measured.

    ``pace`` is the full model, measured: it tells how long a forward pass takes.

    Raises:
        CahpError: If the full model failed.
    """
    one = pace.answers.get(("none", "eval"))
    if one is None:
        raise CahpError(f"the full model could not be measured ({pace.error}); try `cahp evaluate` first")
    each = one.seconds / len(one.evaluation)
    choosing = sum(first for first, _ in passes.values())
    total = choosing + sum(second for _, second in passes.values())
    return Estimate(
        cells=len(cells),
        cached=sum(cell not in passes for cell in cells),
        forwards=total,
        choosing=choosing,
        forward_ms=each * 1000,
        minutes=total * each / 60 / workers,
    )


def forwards(benches: Benches, cells: Sequence[Cell]) -> dict[Cell, tuple[float, float]]:
    """Forward passes that each cell takes to choose and to measure; what a method computes once a seed counts once."""
    seen: dict[tuple[str, int], float] = {}
    found = {}
    for cell in cells:
        to_choose, to_answer = missing(benches, cell)
        choosing = _choosing(benches, cell) if to_choose else 0.0
        before = seen.get((cell.method, cell.seed), 0.0)
        # A more expensive budget goes on from where a cheaper one stopped, as far as anybody can know beforehand.
        seen[cell.method, cell.seed] = max(before, choosing)
        texts = len(benches.bench(cell.seed).calibration)
        answers = [(recovery, sum(len(benches.splits[split]) for split in splits)) for recovery, splits in to_answer]
        found[cell] = (
            max(0.0, choosing - before),
            sum(
                count + RECOVERIES[recovery].passes(texts, can_refit=not benches.card.no_refit)
                for recovery, count in answers
            ),
        )
    return found


def _choosing(benches: Benches, cell: Cell) -> float:
    if cell.method == FULL:
        return 0.0
    try:
        price = priced(benches, cell, cast(Evidence, benches.bench(cell.seed).evidence))
    except Exception:
        # An estimate fails nothing; the cell will say what is wrong.
        return 0.0
    return 0.0 if price is None else float(price.forwards)
