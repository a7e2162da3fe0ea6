"""Results of a person's own texts: computed by the worker, kept in the browser session only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import count
from typing import Any

from cahp.recoveries import NONE, RECOVERIES
from cahp.run.recovered import Recovered, cut_model
from cahp.studies.own_text import AnswersOverBudgets, TextReading, over_budgets, read_text
from cahp.ui.session.work import BoardState, Kind
from cahp.values import HeadMask, Input, Progress, digest

#: Number of texts, and of results per text, that a session keeps.
_TEXTS, _READINGS = 20, 200


@dataclass(eq=False)
class KnownText:
    """Results of one text with one model: under masks, recovered or not, and over all budgets of a table."""

    readings: OrderedDict[tuple[object, ...], TextReading | None] = field(default_factory=OrderedDict)
    curves: dict[str, AnswersOverBudgets] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TextOnBoard:
    """The board, the text, and the place of its results. ``number`` stands for the text in logs."""

    number: int
    board: BoardState
    text: Input
    known: KnownText

    @property
    def missing(self) -> list[Callable[[Progress], None]]:
        """The missing results, the most wanted first."""
        mask, known = self.board.mask, self.known
        full, recoveries = HeadMask.full(mask.layers, mask.heads), self.recoveries
        wanted: list[tuple[HeadMask, str]] = [(full, "none"), (mask, "none"), *((mask, how) for how in recoveries)]
        steps: list[Callable[[Progress], None]] = [
            partial(self._read, which, how) for which, how in wanted if self._name(which, how) not in known.readings
        ]
        return steps if self.table_name in known.curves else [*steps, self._over_budgets]

    @property
    def recoveries(self) -> tuple[str, ...]:
        """The recovery on the board, or else one that is measured for its mask."""
        mask, asked = self.board.mask, self.board.recover
        if mask.is_full:
            return ()
        if asked != "none":
            return (asked,)
        measured = [
            how
            for how, row in RECOVERIES.items()
            if row.on_board and row is not NONE and self.board.results.outcomes(mask, how)
        ]
        return tuple(measured[:1])

    @property
    def table_name(self) -> str:
        """Digest of the masks of all budgets."""
        assert self.board.table is not None
        return digest(*(selection.mask.sha256 for selection in self.board.table.selections))

    def reading(self, mask: HeadMask, how: str = "none") -> TextReading | None:
        """Return a result, or None."""
        return self.known.readings.get(self._name(mask, how))

    @property
    def unrecovered(self) -> bool:
        """Whether a recovered model was wanted and does not exist."""
        names = [self._name(self.board.mask, how) for how in self.recoveries]
        return any(name in self.known.readings and self.known.readings[name] is None for name in names)

    def _name(self, mask: HeadMask, how: str) -> tuple[object, ...]:
        if how == "none":
            return mask.sha256, how
        # A missing recovered model may exist once it is wanted on the board or measured.
        looked_for = self.board.recover == how, self.board.results.outcomes(mask, how) is not None
        return mask.sha256, how, self._distilled_on if RECOVERIES[how].trains else self._refitted_on, *looked_for

    @property
    def _refitted_on(self) -> str:
        return self.board.bench.calibration.sha256

    @cached_property
    def _distilled_on(self) -> str:
        """Digest of the texts of a distillation; cached, because it takes a while."""
        return self.board.bench.for_distillation().recoveries.inputs_sha256

    def _read(self, mask: HeadMask, how: str, _: Progress) -> None:
        measurements = self.board.bench.measurements
        if how == "none":
            found: TextReading | None = read_text(measurements.model, self.text, mask)
        else:
            recovered = _recovered(self.board, how)
            model = None if recovered is None else cut_model(measurements.model, mask, recovered)
            found = None if model is None else read_text(model, self.text, mask, masked=False)
        readings = self.known.readings
        readings[self._name(mask, how)] = found
        while len(readings) > _READINGS:
            readings.popitem(last=False)

    def _over_budgets(self, progress: Progress) -> None:
        table = self.board.table
        assert table is not None
        masks = [selection.mask for selection in table.selections]
        found = over_budgets(self.board.bench.model, self.text, masks, progress=progress)
        self.known.curves = {self.table_name: found}


def _recovered(board: BoardState, how: str) -> Recovered | None:
    """Return the recovered model on the board; never train one, and refit only if the board shows the refit."""
    if RECOVERIES[how].trains:
        return board.bench.for_distillation().recoveries.read_distilled(board.mask)
    recoveries = board.bench.recoveries
    return recoveries.refit(board.mask) if board.recover == how else recoveries.read_refit(board.mask)


def _find(asked: TextOnBoard, progress: Progress) -> bool:
    for step in asked.missing:
        step(progress)
        progress("own text", 0, 1)
    return True


#: Run one text. A job whose mask has left the board is dropped.
OWN_TEXT: Kind[TextOnBoard, bool] = Kind(
    _find, lambda asked: f"own_text-{asked.number}-{asked.board}-{asked.table_name[:12]}", newest=True
)


@dataclass
class TextMemory:
    """Results of this session."""

    texts: OrderedDict[tuple[str, Input], tuple[int, KnownText]] = field(default_factory=OrderedDict)
    numbers: Any = field(default_factory=lambda: count(1))

    def of(self, model: str, text: Input) -> tuple[int, KnownText]:
        """Return the number of a text and its results with a model."""
        if (model, text) not in self.texts:
            self.texts[model, text] = (next(self.numbers), KnownText())
            while len(self.texts) > _TEXTS:
                self.texts.popitem(last=False)
        self.texts.move_to_end((model, text))
        return self.texts[model, text]
