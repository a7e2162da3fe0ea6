"""A person's own text with its results so far: what is still missing of them, and the jobs that measure it.

The worker computes them. Texts and their results live in the browser session only: in no file, address or log. The text
itself also stays in the browser's tab, so that a reload restores it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Literal, cast

import streamlit as st

from cahp.features.own_text.measuring import (
    AnswersOverBudgets,
    StoredText,
    TextReading,
    continue_text,
    name_text,
    over_budgets,
    read_example,
    read_maps,
    read_text,
)
from cahp.features.own_text.section import CONTINUATION, TOKENS
from cahp.recoveries import NONE, RECOVERIES
from cahp.run import cut_model
from cahp.ui.frame import describe_progress, job_card, warm
from cahp.ui.parts import is_own_example, own_text_box
from cahp.ui.session import BoardState, Explorer, Kind, Rank, recovery_seconds
from cahp.values import Floats, HeadMask, Input, Progress, digest

if TYPE_CHECKING:
    from cahp.board import WordMaps
    from cahp.models import HeadModel

#: The models that read a text: with all heads, with those of the board, and after its recovery.
State = Literal["full", "pruned", "recovered"]
#: What tells the readings of a text apart: the mask, and how the model was recovered.
Name = tuple[object, ...]
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

    ``maps`` are what the heads of a classifier attend to, ``tried`` the recovered models that are not computed yet, and
    ``stored`` the answers that ship. ``number`` stands for the text in logs.
    """

    model: str
    text: Input
    readings: dict[Name, TextReading] = field(default_factory=dict)
    curves: dict[str, AnswersOverBudgets] = field(default_factory=dict)
    maps: WordMaps | None = None
    tried: set[Name] = field(default_factory=set)
    stored: StoredText | None = None
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

    @property
    def masks(self) -> list[HeadMask]:
        """The masks of all budgets."""
        return [selection.mask for selection in self.board.need_table.selections]

    @property
    def table_name(self) -> str:
        """Digest of the masks of all budgets."""
        return digest(*(mask.sha256 for mask in self.masks))

    @property
    def curve(self) -> AnswersOverBudgets | None:
        """The answers over all budgets (None: not measured)."""
        return self.known.curves.get(self.table_name)

    def mask(self, state: State) -> HeadMask:
        """Return the heads of a state."""
        if state == "full":
            return self.board.mask.unpruned
        return self.board.mask

    def name(self, state: State) -> Name:
        """Return the name under which a state is kept."""
        mask = self.mask(state)
        if state != "recovered" or self.recovery is None:
            return (mask.sha256,)
        # A missing recovered model may exist once it is measured.
        measured = self.board.results.outcomes(mask, self.recovery) is not None
        return mask.sha256, self.recovery, self.board.bench.recoveries.inputs_sha256, measured

    def describe(self, state: State) -> str:
        """Return a state in words that follow a number of heads."""
        recover = NONE.name
        if state == "recovered" and self.recovery is not None:
            recover = self.recovery
        return RECOVERIES[recover].beside

    def read(self, state: State) -> TextReading | None:
        """Return a result, or None."""
        return self.known.readings.get(self.name(state))

    def is_read(self, state: State) -> bool:
        """Whether a state has read the text and, if it continues it, has come to the end."""
        reading = self.read(state)
        return reading is not None and (not self.continues or len(reading.ids) == TOKENS)

    @property
    def missing(self) -> list[str]:
        """The missing results, the most wanted first; not a refit that has to be computed: see ``lacks_recovered``."""
        tried = self.recovery is None or self.name("recovered") in self.known.tried
        known = {
            "full": self.is_read("full"),
            "pruned": self.is_read("pruned"),
            "maps": self.continues or self.known.maps is not None,
            "recovered": tried or self.is_read("recovered"),
            "curve": self.curve is not None,
        }
        return [part for part, is_known in known.items() if not is_known]

    @property
    def is_of_run(self) -> bool:
        """Whether the run on screen has the mask and the recovery of the board."""
        run = self.board.results.run
        return run is not None and (run.mask.sha256, run.settings.recover) == (self.board.mask.sha256, self.recovery)

    def find_probabilities(self, state: State) -> Floats | None:
        """Return the class probabilities of a state, as they were read or are stored (None: they are not measured)."""
        reading = self.read(state)
        if reading is not None:
            return reading.probabilities
        if state == "recovered":
            if self.known.stored is None or not self.is_of_run:
                return None
            return self.known.stored.recovered
        mask = self.mask(state)
        curve = self.curve
        if curve is None or not self.board.need_table.has(mask) or mask.count not in curve.budgets:
            return None
        row: Floats = curve.probabilities[curve.budgets.index(mask.count)]
        return row

    def find_written(self, state: State) -> Sequence[str] | None:
        """Return the tokens so far with which a state continues the text, read here or by the run on screen."""
        reading = self.read(state)
        if reading is not None:
            return reading.written
        run = self.board.results.run
        if run is None:
            return None
        continuation = CONTINUATION.read_run(run)
        if continuation is None or continuation.prompt != self.known.text:
            return None
        if state == "full":
            return continuation.full
        if run.mask.sha256 != self.board.mask.sha256:
            return None
        if state == "pruned":
            return continuation.pruned
        if self.is_of_run:
            return continuation.recovered
        return None

    @property
    def lacks_recovered(self) -> bool:
        """Whether the recovered model of the board was not found, and can be computed before it reads the text."""
        if self.recovery is None or RECOVERIES[self.recovery].trains or self.is_read("recovered"):
            return False
        return self.name("recovered") in self.known.tried


def measure(
    text: TextOnBoard, parts: Sequence[str], progress: Progress, *, compute: bool = False
) -> Generator[None, None, bool]:
    """Measure missing parts, and let work of other sessions pass where it yields.

    A recovered model is computed if ``compute`` says so, and never trained.
    """
    bench = text.board.bench
    known = text.known
    for part in parts:
        if part == "maps":
            known.maps = read_maps(bench.model, known.text)
        elif part == "curve":
            curve = over_budgets(bench.model, known.text, text.masks, progress=progress)
            known.curves = {text.table_name: curve}
        else:
            state = cast(State, part)
            name = text.name(state)
            mask = text.mask(state)
            model = bench.model
            if state == "recovered":
                assert text.recovery is not None
                recovered = bench.recoveries.read(mask, text.recovery)
                if recovered is None and compute:
                    recovered = bench.recoveries.refit(mask, text.recovery)
                yield
                if recovered is None:
                    known.tried.add(name)
                    continue
                model = cut_model(model, mask, recovered)
            yield from _read(text, state, model, progress)
        yield
        progress("own text", 0, 1)
    return True


def _read(text: TextOnBoard, state: State, model: HeadModel, progress: Progress) -> Generator[None, None, None]:
    from cahp.models import split_text

    name = text.name(state)
    mask = None
    # The recovered model is cut already.
    if state != "recovered":
        mask = text.mask(state)
    reading = read_text(model, text.known.text, mask)
    text.known.readings[name] = reading
    yield
    if not text.continues:
        return
    ids: tuple[int, ...] = ()
    for token in continue_text(model, text.known.text, mask):
        ids = (*ids, token)
        text.known.readings[name] = replace(reading, ids=ids, written=split_text(model.tokenizer, ids))
        progress(CONTINUE, len(ids), TOKENS)
        yield


#: Run one text. A job whose mask has left the board is dropped.
OWN_TEXT: Kind[TextOnBoard, bool] = Kind(
    lambda text, progress: measure(text, text.missing, progress),
    lambda text: f"own_text-{text.known.number}-{text.board}-{text.table_name[:12]}",
    newest=True,
)


def expect_seconds(text: TextOnBoard) -> float:
    """Estimate the seconds until the recovered model of the board has read the text."""
    return recovery_seconds(text.board.bench, text.recovery or NONE.name)


#: Compute the recovered model of the board for one text: quicker work that was asked for goes first.
RECOVERED: Kind[TextOnBoard, bool] = Kind(
    lambda text, progress: measure(text, ["recovered"], progress, compute=True),
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
    if 0 < int(explorer.card.details.get("bytes", 0)) <= _SMALL:
        warm(explorer)


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
    if text.lacks_recovered:
        beside = text.describe("recovered")
        name = "own-text-recovered"
        job_card(explorer, RECOVERED, text, name=name, title=f"The same {beside}", offer=f"Read it {beside}")


def use_stored(text: TextOnBoard) -> None:
    """Take the stored answers to a text under the masks of the board's budgets, if there are any."""
    bench = text.board.bench
    stored = bench.resources.store.read(name_text(bench.card.sha256, text.known.text, text.masks), read_example)
    text.known.stored = stored
    if stored is not None:
        text.known.maps = stored.maps
        text.known.curves = {text.table_name: stored.curve}
