"""A comparison, summarised: a function of the document and of who answered which text rightly, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from cahp.comparison import accuracy, heads
from cahp.comparison.accuracy import mean_of
from cahp.comparison.bootstrap import Bootstrap, draws_for
from cahp.comparison.document import CellRecord, ComparisonDocument
from cahp.comparison.plan import OURS
from cahp.comparison.summary import Area, AreaVerdict, Mean, MethodCost, Overlap, Summary, Verdict
from cahp.comparison.verdicts import area_verdicts, rule, verdicts
from cahp.values import OptionError

#: By part (``eval`` or ``report``), who answered which text rightly, ``(R, n)``.
Right = Mapping[str, NDArray[np.bool_]]


def summarise(document: ComparisonDocument, right: Right, *, against: str | None = None) -> Summary:
    """The whole summary; ``against`` is the method whose differences to the others are tested.

    Raises:
        OptionError: If it did not take part.
    """
    names = list(document.methods)
    against = against or (OURS if OURS in names else names[0])
    if against not in names:
        raise OptionError(f"{against!r} is not in this comparison; choose one of {', '.join(names)}")
    means: list[Mean] = []
    areas: list[Area] = []
    tests: list[Verdict] = []
    area_tests: list[AreaVerdict] = []
    every = sorted({cell.budget.attained for cell in document.finished if cell.budget.attained is not None})
    asked = (len(names) - 1) * len(every)
    for part, rows in right.items():
        split = document.data.of(part).split
        bootstrap = Bootstrap(len(document.seeds), rows.shape[1], tests=asked)
        for recovery in document.recoveries:
            measured = accuracy.series(document, rows, recovery)
            draws = accuracy.draw(measured, bootstrap)
            means += accuracy.means(measured, draws, part=part, split=split, recovery=recovery)
            areas += accuracy.areas(measured, draws, split=split, recovery=recovery)
            tests += verdicts(measured, bootstrap, split=split, recovery=recovery, against=against)
            area_tests += area_verdicts(
                measured, bootstrap, split=split, recovery=recovery, against=against, every=every
            )
    kept = heads.masks(document)
    return Summary(
        against=against,
        rule=rule(against, draws=draws_for(asked)),
        means=tuple(means),
        areas=tuple(areas),
        verdicts=tuple(tests),
        area_verdicts=tuple(area_tests),
        layers=tuple(heads.layers(kept)),
        overlap=Overlap(tuple(heads.between(kept, names)), tuple(heads.within(kept))),
        consensus=tuple(heads.consensus(kept, [name for name in names if not document.methods[name].chance])),
        cost=tuple(_cost(document)),
    )


def _cost(document: ComparisonDocument) -> Iterator[MethodCost]:
    """What choosing costs: forward passes and labels as if nothing were cached, and the seconds that were measured.

    Both are of the costliest budget, the mean over seeds. Evidence that another method of the same comparison had
    already gathered takes no seconds again, so forward passes compare and seconds tell what this comparison took.
    """
    for method in document.methods:
        cells = [cell for cell in document.finished if cell.method == method]
        if not cells:
            continue
        seeds = sorted({cell.seed for cell in cells})
        costliest = [max(_seconds(cell) for cell in cells if cell.seed == seed) for seed in seeds]
        prices = [cell.price for cell in cells if cell.price]
        yield MethodCost(
            method=method,
            forwards=max((price.forwards for price in prices), default=None),
            labels=max((price.labels for price in prices), default=None),
            score_s=float(np.mean(costliest)),
            recovery_s={
                recovery: mean_of(cell.seconds.recovery.get(recovery) for cell in cells)
                for recovery in document.recoveries
                if recovery != "none"
            },
        )


def _seconds(cell: CellRecord) -> float:
    return cell.seconds.score or 0.0
