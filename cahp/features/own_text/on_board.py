"""A person's own text with its results so far: what is still missing of them, and the jobs that measure it.

The worker computes them. Texts and their results live in the browser session only: in no file, address or log. The text
itself also stays in the browser's tab, so that a reload restores it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Literal

import streamlit as st

from cahp.features.own_text.measuring import (
    AnswersOverBudgets,
    StoredText,
    TextReading,
    continue_text,
    name_text,
    over_budgets,
    read_maps,
    read_stored,
    read_text,
)
from cahp.features.own_text.section import CONTINUATION, TOKENS, Tokens
from cahp.recoveries import NONE, RECOVERIES
from cahp.run import Recovered, cut_model
from cahp.ui.frame import describe_progress, follow, show_job
from cahp.ui.parts import is_own_example, own_text_box
from cahp.ui.session import WARM, BoardState, Explorer, Kind, Rank, recovery_seconds
from cahp.values import Floats, HeadMask, Input, Progress, digest
from cahp.words import duration

if TYPE_CHECKING:
    from cahp.board import WordMaps
    from cahp.models import HeadModel

#: The models that read a text: with all heads, with those of the board, and after its recovery.
State = Literal["full", "pruned", "recovered"]
#: The stage that progress names while a text is continued.
CONTINUE = "continuation"
#: Session key of the results.
_MEMORY = "own-text-memory"
#: Seconds up to which a refit is computed for a text without a question.
_UNASKED_S = 180.0
#: Seconds that a page waits for the first answer to a text before it tells how far that is.
_PATIENCE_S = 0.7
#: Bytes of a model's weights up to which it is loaded before a person types a text or clicks a head.
_SMALL = 1_000_000_000


@dataclass(eq=False)
class KnownText:
    """Results of a text with the model of this digest: its readings, and the answers over all budgets of a table.

    ``maps`` are what the heads of a classifier attend to, ``tried`` the recovered models that are not computed yet.
    ``number`` stands for the text in logs.
    """

    model: str
    text: Input
    readings: dict[tuple[object, ...], TextReading] = field(default_factory=dict)
    curves: dict[str, AnswersOverBudgets] = field(default_factory=dict)
    maps: WordMaps | None = None
    tried: set[tuple[object, ...]] = field(default_factory=set)
    number: int = field(default_factory=count(1).__next__)


@dataclass(frozen=True, eq=False)
class TextOnBoard:
    """The board, and a text with its results so far."""

    board: BoardState
    known: KnownText

    @property
    def recovery(self) -> str | None:
        """The recovery on the board (None: none)."""
        if self.board.mask.is_full or self.board.recover == NONE.name:
            return None
        return self.board.recover

    @property
    def continues(self) -> bool:
        """Whether the model continues the text, as a language model does."""
        return self.board.bench.card.task.predicts_often

    def mask(self, state: State) -> HeadMask:
        """Return the heads of a state."""
        if state == "full":
            return HeadMask.full(self.board.mask.layers, self.board.mask.heads)
        return self.board.mask

    def describe(self, state: State) -> str:
        """Return a state in words that follow a number of heads."""
        recover = NONE.name
        if state == "recovered" and self.recovery is not None:
            recover = self.recovery
        return RECOVERIES[recover].beside

    def read(self, state: State) -> TextReading | None:
        """Return a result, or None."""
        return self.known.readings.get(self._name(state))

    @property
    def table_name(self) -> str:
        """Digest of the masks of all budgets."""
        assert self.board.table is not None
        return digest(*(selection.mask.sha256 for selection in self.board.table.selections))

    @property
    def missing(self) -> list[str]:
        """The missing results, the most wanted first; not a refit that has to be computed: see ``lacks_recovered``."""
        parts = ["full", "pruned", "maps", "curve", "recovered"]
        if self.continues:
            # Its budgets take longest, and stand on no first screen.
            parts = ["full", "pruned", "recovered", "curve"]
        return [part for part in parts if not self._has(part)]

    @property
    def lacks_recovered(self) -> bool:
        """Whether the recovered model of the board was not found, and can be computed before it reads the text."""
        if self.recovery is None or RECOVERIES[self.recovery].trains or self._is_read("recovered"):
            return False
        return self._name("recovered") in self.known.tried

    def measure(self, part: str, progress: Progress, *, compute: bool = False) -> Iterator[None]:
        """Measure a missing part, and let work of other sessions pass where it yields.

        A recovered model is computed if ``compute`` says so, and never trained.
        """
        model = self.board.bench.model
        text = self.known.text
        match part:
            case "maps":
                self.known.maps = read_maps(model, text)
                yield
            case "curve":
                assert self.board.table is not None
                masks = [selection.mask for selection in self.board.table.selections]
                self.known.curves = {self.table_name: over_budgets(model, text, masks, progress=progress)}
                yield
            case "recovered":
                recovered = self._recover(compute=compute)
                yield
                if recovered is None:
                    self.known.tried.add(self._name("recovered"))
                else:
                    cut = cut_model(model, self.board.mask, recovered)
                    yield from self._read("recovered", cut, progress, masked=False)
            case "full" | "pruned":
                yield from self._read(part, model, progress, masked=True)

    def _read(self, state: State, model: HeadModel, progress: Progress, *, masked: bool) -> Iterator[None]:
        name = self._name(state)
        mask = self.mask(state)
        text = self.known.text
        reading = read_text(model, text, mask, masked=masked)
        self.known.readings[name] = reading
        yield
        if not self.continues:
            return
        ids = list[int]()
        for token in continue_text(model, text, mask, masked=masked):
            ids.append(token)
            self.known.readings[name] = replace(reading, written=Tokens.of(model.tokenizer, ids))
            progress(CONTINUE, len(ids), TOKENS)
            yield

    def _recover(self, *, compute: bool) -> Recovered | None:
        """Return the recovered model of the board, if there is one or it is to be computed."""
        recoveries = self.board.bench.recoveries
        mask = self.board.mask
        assert self.recovery is not None
        if compute and not RECOVERIES[self.recovery].trains:
            return recoveries.refit(mask, self.recovery)
        return recoveries.read(mask, self.recovery)

    def _has(self, part: str) -> bool:
        match part:
            case "maps":
                return self.known.maps is not None
            case "curve":
                return self.table_name in self.known.curves
            case "recovered" if self.recovery is None or self._name(part) in self.known.tried:
                return True
            case "full" | "pruned" | "recovered":
                return self._is_read(part)
        raise KeyError(part)

    def _is_read(self, state: State) -> bool:
        reading = self.read(state)
        return reading is not None and (not self.continues or len(reading.written.ids) == TOKENS)

    def _name(self, state: State) -> tuple[object, ...]:
        mask = self.mask(state)
        if state != "recovered" or self.recovery is None:
            return (mask.sha256,)
        # A missing recovered model may exist once it is measured.
        measured = self.board.results.outcomes(mask, self.recovery) is not None
        return mask.sha256, self.recovery, self.board.bench.recoveries.inputs_sha256, measured


def _run_text(text: TextOnBoard, progress: Progress) -> Generator[None, None, bool]:
    for part in text.missing:
        yield from text.measure(part, progress)
        progress("own text", 0, 1)
    return True


#: Run one text. A job whose mask has left the board is dropped.
OWN_TEXT: Kind[TextOnBoard, bool] = Kind(
    _run_text, lambda text: f"own_text-{text.known.number}-{text.board}-{text.table_name[:12]}", newest=True
)


def _run_recovered(text: TextOnBoard, progress: Progress) -> Generator[None, None, bool]:
    yield from text.measure("recovered", progress, compute=True)
    return True


def expect_seconds(text: TextOnBoard) -> float:
    """Estimate the seconds until the recovered model of the board has read the text."""
    return recovery_seconds(text.board.bench, text.recovery or NONE.name)


#: Compute the recovered model of the board for one text: quicker work that was asked for goes first.
RECOVERED: Kind[TextOnBoard, bool] = Kind(
    _run_recovered,
    lambda text: f"own_text_recovered-{text.known.number}-{text.board}",
    Rank.LONG,
    newest=True,
    seconds=lambda text: expect_seconds(text),
    title="Refit",
)


# The text of the session -----------------------------------------------------------------------------------------


def put_on_board(explorer: Explorer, *, line: bool) -> TextOnBoard:
    """Draw the box for the text, on one ``line`` or several, and return it on the board; the last text is kept."""
    typed = own_text_box(explorer.bench, line=line)
    known: KnownText | None = st.session_state.get(_MEMORY)
    if known is None or (known.model, known.text) != (explorer.card.sha256, typed):
        st.session_state[_MEMORY] = known = KnownText(explorer.card.sha256, typed)
    return TextOnBoard(explorer.board_state(explorer.recovery.ready), known)


def load_ahead(explorer: Explorer) -> None:
    """Load a small model ahead, in a quiet moment, once in a session: the first text and click answer at once."""
    small = 0 < int((explorer.card.details or {}).get("bytes", 0)) <= _SMALL
    if small and explorer.work.job(WARM, explorer.bench) is None:
        explorer.work.start(WARM, explorer.bench)


def start_reading(explorer: Explorer, text: TextOnBoard) -> str:
    """Start what is missing; return how far it is (empty: nothing is in progress)."""
    typed = not is_own_example(explorer.bench, text.known.text)
    if text.missing:
        job = explorer.work.job(OWN_TEXT, text)
        if job is None:
            rank = Rank.UNASKED
            if typed or explorer.board.by_hand:
                rank = Rank.QUICK
            job = explorer.work.start(OWN_TEXT, text, rank=rank)
            if typed:
                job.wait(_PATIENCE_S)
        if job.error:
            return job.error
        if not job.ended:
            return f"{describe_progress(job, 'Reading your text')}…"
    if not text.lacks_recovered:
        return ""
    recovered = explorer.work.job(RECOVERED, text)
    if recovered is None and typed and expect_seconds(text) <= _UNASKED_S:
        recovered = explorer.work.start(RECOVERED, text)
    if recovered is None or recovered.ended:
        return ""
    return f"{describe_progress(recovered, 'Refitting for your text')}…"


def draw_recovered_work(explorer: Explorer, text: TextOnBoard) -> None:
    """Draw how far the recovered model of the board is, why it has no result, or the button that computes it."""
    if not text.lacks_recovered:
        return
    job = explorer.work.job(RECOVERED, text)
    beside = text.describe("recovered")
    if job is not None and not job.ended:
        follow(job, name="own-text-recovered", title=f"The same {beside}")
    elif job is not None and job.error:
        show_job(job, lambda: explorer.work.start(RECOVERED, text), name="own-text-recovered")
    elif st.button(f"Read it {beside} (about {duration(expect_seconds(text))})", key="own-text-recovered"):
        explorer.work.start(RECOVERED, text)
        st.rerun(scope="fragment")


# What is known of it, measured here or stored -------------------------------------------------------------------


def use_stored(explorer: Explorer, text: TextOnBoard) -> StoredText | None:
    """Take the stored answers to a text under the masks of the board's budgets (None: there are none)."""
    name = name_text(explorer.card.sha256, text.known.text, text.table_name)
    stored = read_stored(explorer.bench.resources.store, name)
    if stored is not None:
        text.known.maps = stored.maps
        text.known.curves = {text.table_name: stored.curve}
    return stored


def find_probabilities(
    explorer: Explorer, text: TextOnBoard, state: State, stored: StoredText | None
) -> Floats | Sequence[float] | None:
    """Return the class probabilities of a state, as they were read or are stored (None: they are not measured)."""
    reading = text.read(state)
    if reading is not None:
        return reading.probabilities
    mask = text.mask(state)
    if state == "recovered":
        if stored is None or not _is_of_run(explorer, text):
            return None
        return stored.recovered
    curve = text.known.curves.get(text.table_name)
    table = text.board.table
    if curve is None or table is None or not table.has(mask) or mask.count not in curve.budgets:
        return None
    row: Floats = curve.probabilities[curve.budgets.index(mask.count)]
    return row


def find_written(explorer: Explorer, text: TextOnBoard, state: State) -> Sequence[str] | None:
    """Return the tokens so far with which a state continues the text, read here or by the run on screen."""
    reading = text.read(state)
    if reading is not None:
        return reading.written.parts
    run = explorer.results.run
    if run is None:
        return None
    continuation = CONTINUATION.read_run(run)
    if continuation is None or continuation.prompt != text.known.text:
        return None
    if state == "full":
        return continuation.full
    if run.mask.sha256 != text.board.mask.sha256:
        return None
    if state == "pruned":
        return continuation.pruned
    if _is_of_run(explorer, text):
        return continuation.recovered
    return None


def _is_of_run(explorer: Explorer, text: TextOnBoard) -> bool:
    """Whether the run on screen has the mask and the recovery of the text."""
    run = explorer.results.run
    return run is not None and (run.mask.sha256, run.settings.recover) == (text.board.mask.sha256, text.recovery)
