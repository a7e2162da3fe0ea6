"""What is measured of a cell, and where in the store it is kept.

Choices and answers are kept under keys of all that they depend on, so that an interrupted comparison goes on where it
stopped, and another one finds what both ask.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp import methods
from cahp.comparison.benches import Benches
from cahp.comparison.plan import FULL, Cell
from cahp.registry import Method
from cahp.run.recoveries import more_texts
from cahp.run.settings import IN_DIGESTS, key_fields
from cahp.stages.clustering import revision
from cahp.store import Entry, key
from cahp.values import Evaluation, HeadMask, Price, Texts, digest

#: Raised when a change of the code changes numbers, so that nothing that is kept outlives it.
_REVISION = 2
#: Settings that do not change the choice of a cell: the cell has its own, and recoveries and timings come after it.
_NOT_CHOOSING = (
    *IN_DIGESTS,
    *("method", "budget", "seed", "representative", "recover", "recover_data", "recover_time", "labels", "report"),
    *("device", "precision", "latency", "latency_time"),
)
#: Settings that do not change what a given mask answers: they choose it, or measure something else.
_NOT_ANSWERING = (
    *(*IN_DIGESTS, "method", "budget", "seed", "min_per_layer", "pool_size", "poly_degree", "projection", "salience"),
    *("representative", "recover", "report", "device", "precision", "latency", "latency_time"),
)

#: Keeps what was measured, under its key.
Keep = Callable[[str, Entry], None]


@dataclass(frozen=True, eq=False)
class MaskChoice:
    """The mask of a cell, the setting that was chosen, what it cost and the seconds it took."""

    mask: HeadMask
    setting: Mapping[str, Any]
    price: Price | None
    seconds: float

    def entry(self) -> Entry:
        """As the store keeps it."""
        price = self.price and {"forwards": float(self.price.forwards), "labels": int(self.price.labels)}
        meta = {"setting": dict(self.setting), "price": price, "seconds": self.seconds}
        return Entry({"keep": self.mask.keep.astype(np.uint8)}, meta)

    @classmethod
    def of(cls, entry: Entry) -> MaskChoice:
        """The choice that the store kept."""
        price = entry.meta["price"]
        mask = HeadMask(entry.arrays["keep"].astype(np.bool_))
        return cls(mask, entry.meta["setting"], price and Price(**price), entry.meta["seconds"])


@dataclass(frozen=True, eq=False)
class Answers:
    """What a recovered model answered on a split, and the seconds that its recovery and its answers took."""

    evaluation: Evaluation
    recovery: float
    seconds: float

    def entry(self) -> Entry:
        """As the store keeps it: without the texts."""
        made = self.evaluation
        arrays: dict[str, NDArray[Any]] = {"predictions": made.predictions.astype(np.int32), "losses": made.losses}
        return Entry(arrays, {"recovery": self.recovery, "seconds": self.seconds})

    @classmethod
    def of(cls, entry: Entry, texts: Texts) -> Answers:
        """The answers to ``texts`` that the store kept."""
        arrays, meta = entry.arrays, entry.meta
        evaluation = Evaluation(arrays["predictions"].astype(np.int64), texts.labels, arrays["losses"], texts.classes)
        return cls(evaluation, meta["recovery"], meta["seconds"])


@dataclass(frozen=True, eq=False)
class Measured:
    """A cell's choice (None if it failed), its answers by recovery and split, and the error that ended it."""

    cell: Cell
    choice: MaskChoice | None = None
    answers: Mapping[tuple[str, str], Answers] = field(default_factory=dict)
    error: str | None = None


def cached(benches: Benches, cell: Cell) -> Measured | None:
    """A cell of which everything is in the store; nothing is measured and no weights are read."""
    choice = cached_choice(benches, cell)
    if choice is None:
        return None
    answers: dict[tuple[str, str], Answers] = {}
    for recovery in benches.plan.recoveries_of(cell):
        for split, one in cached_answers(benches, cell, choice.mask, recovery).items():
            if one is None:
                return None
            answers[recovery, split] = one
    return Measured(cell, choice, answers)


def missing(benches: Benches, cell: Cell) -> tuple[bool, list[tuple[str, list[str]]]]:
    """What of a cell is not in the store: whether its mask is to be chosen, and the splits to answer, by recovery."""
    choice = cached_choice(benches, cell)
    asked = list(benches.plan.recoveries_of(cell))
    if choice is None:
        return True, [(recovery, list(benches.splits)) for recovery in asked]
    found = {recovery: cached_answers(benches, cell, choice.mask, recovery) for recovery in asked}
    open_ = {recovery: [split for split, one in of.items() if one is None] for recovery, of in found.items()}
    return False, [(recovery, splits) for recovery, splits in open_.items() if splits]


def cached_choice(benches: Benches, cell: Cell) -> MaskChoice | None:
    """The mask of a cell, if it is in the store; that of the full model needs no choice."""
    if cell.method == FULL:
        return MaskChoice(HeadMask.full(benches.card.layers, benches.card.heads), {}, None, 0.0)
    return benches.store.read(choice_key(benches, cell), MaskChoice.of)


def cached_answers(benches: Benches, cell: Cell, mask: HeadMask, recovery: str) -> dict[str, Answers | None]:
    """By split, what was answered after a recovery, if it is in the store."""
    found: dict[str, Answers | None] = {}
    for split, texts in benches.splits.items():
        name = answers_key(benches, cell, mask, recovery, texts)
        found[split] = benches.store.read(name, partial(Answers.of, texts=texts))
    return found


def choice_key(benches: Benches, cell: Cell) -> str:
    """The key of a cell's choice."""
    settings, tried = benches.plan.settings, [dict(setting) for setting in benches.plan.tried(cell.method)]
    return key(
        "compare-choice",
        _REVISION + revision(benches.card.layers * benches.card.heads) - 1,
        *(
            benches.card.sha256,
            benches.bench(cell.seed).calibration.sha256,
            cell.method,
            _source(methods.get(cell.method)),
        ),
        *(tried, benches.tuning_texts.sha256 if benches.tuning_texts is not None and len(tried) > 1 else None),
        *(cell.budget, cell.seed, cell.noise, key_fields(settings, without=_NOT_CHOOSING)),
    )


def answers_key(benches: Benches, cell: Cell, mask: HeadMask, recovery: str, texts: Texts) -> str:
    """The key of what a mask answers after a recovery, whichever cell it is of."""
    # What a refit gives depends on the calibration texts, and a training on a seed besides; masks have none.
    calibration = benches.bench(cell.seed).calibration
    recovered = None if recovery == "none" else calibration.sha256
    seed = cell.seed if recovery in ("finetune", "distill") else None
    parts = (benches.card.sha256, mask.sha256, recovery, recovered, seed, texts.sha256)
    more = more_texts(len(calibration)) if recovery in ("refit", "distill") else ()
    settings = key_fields(benches.plan.settings, without=_NOT_ANSWERING)
    return key("compare-answers", _REVISION, *parts, settings, *more)


def _source(method: Method) -> str:
    """Digest of a method's code: with other code, nothing is found in the store.

    Of ours that is its file, of a package of somebody's own all of its files.
    """
    home = inspect.getmodule(type(method))
    package = sys.modules.get(type(method).__module__.partition(".")[0])
    places = getattr(package, "__path__", None)
    try:
        if places is None or package is sys.modules["cahp"]:
            return digest(inspect.getsource(home or type(method)))
        files = sorted(file for place in places for file in Path(place).rglob("*.py"))
        return digest(*(part for file in files for part in (file.name, file.read_text(encoding="utf-8"))))
    except (OSError, TypeError, ValueError):
        return ""
