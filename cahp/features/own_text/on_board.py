"""A person's own text with its results so far: what is still missing of them, and the jobs that measure it.

The worker computes them. Texts and their results live in the browser session only: in no file, address or log. The text
itself also stays in the browser's tab, so that a reload restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import streamlit as st

from cahp.features.own_text.measuring import (
    AnswersOverBudgets,
    TextReading,
    continue_text,
    over_budgets,
    read_maps,
    read_text,
)
from cahp.features.own_text.section import TOKENS, Tokens
from cahp.recoveries import NONE, RECOVERIES
from cahp.run import Recovered, cut_model
from cahp.ui.session import WARM, BoardState, Explorer, Job, Kind, Rank, recovery_seconds
from cahp.values import HeadMask, Input, Progress, digest

if TYPE_CHECKING:
    from cahp.board import WordMaps
    from cahp.models import HeadModel

#: The stage that progress names while a text is continued.
CONTINUE = "continuation"
#: Session key of the results.
_MEMORY = "own-text-memory"
#: Seconds up to which a refit is computed for a text without a question.
_UNASKED_S = 180.0
#: Bytes of a model's weights up to which it is loaded before a person types a text or clicks a head.
_SMALL = 1_000_000_000


@dataclass(eq=False)
class KnownText:
    """Results of a text with the model of this digest: under masks, recovered or not, and over all budgets of a table.

    ``written`` are the tokens so far with which a language model continues it, and ``maps`` what the heads of a
    classifier attend to. ``sought`` are recovered models that are not computed yet. ``number`` stands for the text in
    logs.
    """

    model: str
    text: Input
    readings: dict[tuple[object, ...], TextReading | None] = field(default_factory=dict)
    written: dict[tuple[object, ...], Tokens] = field(default_factory=dict)
    curves: dict[str, AnswersOverBudgets] = field(default_factory=dict)
    maps: WordMaps | None = None
    sought: set[tuple[object, ...]] = field(default_factory=set)
    number: int = field(default_factory=count(1).__next__)


@dataclass(frozen=True, eq=False)
class TextOnBoard:
    """The board, and a text with its results so far."""

    board: BoardState
    known: KnownText

    @property
    def missing(self) -> list[Callable[[Progress], Iterator[None]]]:
        """The missing results, the most wanted first; each lets work of other sessions pass where it yields.

        A refit that has to be computed is not among them: see ``lacks_recovered``.
        """
        mask = self.board.mask
        wanted = [(HeadMask.full(mask.layers, mask.heads), "none"), (mask, "none")]
        steps: list[Callable[[Progress], Iterator[None]]] = [
            partial(self._read, which, how) for which, how in wanted if not self._is_read(which, how)
        ]
        if self.known.maps is None and not self.board.bench.card.task.predicts_often:
            steps.append(self._read_maps)
        later = []
        if self.table_name not in self.known.curves:
            later.append(self._over_budgets)
        if self.recovery is not None and not (self._is_read(mask, self.recovery) or self.lacks_recovered):
            later.append(partial(self._read, mask, self.recovery))
        if self.board.bench.card.task.predicts_often:
            # Its budgets take longest, and stand on no first screen.
            later.reverse()
        return [*steps, *later]

    @property
    def lacks_recovered(self) -> bool:
        """Whether the recovered model of the board was sought, and has to be computed before it reads the text."""
        if self.recovery is None:
            return False
        name = self._name(self.board.mask, self.recovery)
        return name in self.known.sought and not self._is_read(self.board.mask, self.recovery)

    def read_recovered(self, progress: Progress) -> Iterator[None]:
        """Compute the recovered model of the board, and let it read the text."""
        assert self.recovery is not None
        yield from self._read(self.board.mask, self.recovery, progress, compute=True)

    @property
    def recovery(self) -> str | None:
        """The recovery on the board, or else one that is measured for its mask (None: neither)."""
        mask = self.board.mask
        if mask.is_full:
            return None
        if self.board.recover != NONE.name:
            return self.board.recover
        for row in RECOVERIES.values():
            if row.on_board and row is not NONE and self.board.results.outcomes(mask, row.name):
                return row.name
        return None

    @property
    def table_name(self) -> str:
        """Digest of the masks of all budgets."""
        assert self.board.table is not None
        return digest(*(selection.mask.sha256 for selection in self.board.table.selections))

    def reading(self, mask: HeadMask, how: str = "none") -> TextReading | None:
        """Return a result, or None."""
        return self.known.readings.get(self._name(mask, how))

    def written(self, mask: HeadMask, how: str = "none") -> Tokens | None:
        """Return the tokens so far that continue the text, or None."""
        return self.known.written.get(self._name(mask, how))

    def _is_read(self, mask: HeadMask, how: str) -> bool:
        name = self._name(mask, how)
        if self.known.readings.get(name) is None or not self.board.bench.card.task.predicts_often:
            return name in self.known.readings
        return len(self.known.written.get(name, Tokens()).ids) == TOKENS

    def _name(self, mask: HeadMask, how: str) -> tuple[object, ...]:
        if how == "none":
            return mask.sha256, how
        # A missing recovered model may exist once it is wanted on the board or measured.
        measured = self.board.results.outcomes(mask, how) is not None
        return mask.sha256, how, self.board.bench.recoveries.inputs_sha256, self.board.recover == how, measured

    def _read(self, mask: HeadMask, how: str, progress: Progress, *, compute: bool = False) -> Iterator[None]:
        """Run the text, with a recovered model if there is one, or it is to be computed: it is never trained here."""
        model = self._get_model(mask, how, compute=compute)
        name = self._name(mask, how)
        text = self.known.text
        masked = how == "none"
        if model is None:
            if self.board.recover == how and not RECOVERIES[how].trains:
                self.known.sought.add(name)
            else:
                self.known.readings[name] = None
            yield
            return
        self.known.readings[name] = read_text(model, text, mask, masked=masked)
        yield
        if not self.board.bench.card.task.predicts_often:
            return
        ids = list[int]()
        for token in continue_text(model, text, mask, masked=masked):
            ids.append(token)
            self.known.written[name] = Tokens.of(model.tokenizer, ids)
            progress(CONTINUE, len(ids), TOKENS)
            yield

    def _get_model(self, mask: HeadMask, how: str, *, compute: bool) -> HeadModel | None:
        """Return the full model, or the recovered one, if there is one or it is to be computed."""
        bench = self.board.bench
        if how == "none":
            return bench.model
        if RECOVERIES[how].trains:
            recovered: Recovered | None = bench.recoveries.read_distilled(mask)
        elif compute:
            recovered = bench.recoveries.refit(mask, how)
        else:
            recovered = bench.recoveries.read_refit(mask, how)
        if recovered is None:
            return None
        return cut_model(bench.model, mask, recovered)

    def _read_maps(self, progress: Progress) -> Iterator[None]:
        self.known.maps = read_maps(self.board.bench.model, self.known.text)
        yield

    def _over_budgets(self, progress: Progress) -> Iterator[None]:
        table = self.board.table
        assert table is not None
        masks = [selection.mask for selection in table.selections]
        curve = over_budgets(self.board.bench.model, self.known.text, masks, progress=progress)
        self.known.curves = {self.table_name: curve}
        yield


def _run_text(text: TextOnBoard, progress: Progress) -> Generator[None, None, bool]:
    for step in text.missing:
        yield from step(progress)
        progress("own text", 0, 1)
    return True


#: Run one text. A job whose mask has left the board is dropped.
OWN_TEXT: Kind[TextOnBoard, bool] = Kind(
    _run_text, lambda text: f"own_text-{text.known.number}-{text.board}-{text.table_name[:12]}", newest=True
)


def _run_recovered(text: TextOnBoard, progress: Progress) -> Generator[None, None, bool]:
    yield from text.read_recovered(progress)
    return True


#: Compute the recovered model of the board for one text: quicker work that was asked for goes first.
RECOVERED: Kind[TextOnBoard, bool] = Kind(
    _run_recovered,
    lambda text: f"own_text_recovered-{text.known.number}-{text.board}",
    Rank.LONG,
    newest=True,
    seconds=lambda text: recovery_seconds(text.board.bench, text.recovery or NONE.name),
    title="Refit",
)


def expect_seconds(text: TextOnBoard) -> float:
    """Estimate the seconds until the recovered model of the board has read the text."""
    assert text.recovery is not None
    return recovery_seconds(text.board.bench, text.recovery)


# The text of the session ---------------------------------------------------------------------------------------


def put_on_board(explorer: Explorer, typed: Input) -> TextOnBoard:
    """Return a text on the board with its results so far. Only those of the last text are kept."""
    known: KnownText | None = st.session_state.get(_MEMORY)
    if known is None or (known.model, known.text) != (explorer.card.sha256, typed):
        st.session_state[_MEMORY] = known = KnownText(explorer.card.sha256, typed)
    return TextOnBoard(explorer.board_state(explorer.recovery.ready), known)


def load_ahead(explorer: Explorer) -> None:
    """Load a small model ahead, in a quiet moment, once in a session: the first text and click answer at once."""
    small = 0 < int((explorer.card.details or {}).get("bytes", 0)) <= _SMALL
    if small and explorer.work.job(WARM, explorer.bench) is None:
        explorer.work.start(WARM, explorer.bench)


def start_recovered(explorer: Explorer, text: TextOnBoard) -> Job[bool] | None:
    """Return the job for the recovered model; start it where it is missing and quick (None: there is none)."""
    job = explorer.work.job(RECOVERED, text)
    if job is None and text.lacks_recovered and expect_seconds(text) <= _UNASKED_S:
        job = explorer.work.start(RECOVERED, text)
    return job
