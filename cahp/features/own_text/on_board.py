"""A person's own text with its results so far: what is still missing of them, and the jobs that measure it.

The worker computes them. Texts and their results live in the browser session only: in no file, address or log. The text
itself also stays in the browser's tab, so that a reload restores it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Literal, cast

import numpy as np
import streamlit as st

from cahp.board import WordMaps
from cahp.features.own_text.measuring import (
    STAGE,
    AnswersOverBudgets,
    TextReading,
    continue_text,
    name_text,
    over_budgets,
    read_example,
    read_maps,
    read_recovered,
    read_text,
)
from cahp.features.own_text.section import CONTINUATION, TOKENS
from cahp.recoveries import NONE, RECOVERIES
from cahp.run import cut_model
from cahp.ui.frame import TEXT_MAPS, describe_progress, job_card, warm
from cahp.ui.parts import is_own_example, own_text_box
from cahp.ui.session import REFIT, BoardState, Explorer, Kind, Rank
from cahp.values import Floats, HeadMask, Input, Progress, digest

#: The models that read a text: with all heads, with those of the board, and these after its recovery, for which a quick
#: one stands as long as it is not computed.
State = Literal["full", "recovered", "quick", "pruned"]
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

    ``curves`` have the digest of the table and the name of a recovery. ``maps`` are what the heads of a classifier
    attend to, and ``tried`` the recovered models that are not computed yet. ``number`` stands for the text in logs.
    """

    model: str
    text: Input
    readings: dict[Name, TextReading] = field(default_factory=dict)
    curves: dict[tuple[str, str], AnswersOverBudgets] = field(default_factory=dict)
    maps: WordMaps | None = None
    tried: set[Name] = field(default_factory=set)
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
    def kept(self) -> Sequence[State]:
        """The states that speak for the heads on the board, the best one first."""
        if self.recovery is None:
            return ("pruned",)
        if not RECOVERIES[self.recovery].at_once:
            return ("recovered",)
        return ("recovered", "quick")

    def find_curve(self, state: State) -> AnswersOverBudgets | None:
        """Return the answers over all budgets after the recovery of a state (None: not measured)."""
        return self.known.curves.get((self.table_name, self.name_recovery(state)))

    def mask(self, state: State) -> HeadMask:
        """Return the heads of a state."""
        if state == "full":
            return self.board.mask.unpruned
        return self.board.mask

    def name_recovery(self, state: State) -> str:
        """Return the name of the recovery of a state."""
        if self.recovery is None or state in ("full", "pruned"):
            return NONE.name
        if state == "quick":
            return RECOVERIES[self.recovery].at_once
        return self.recovery

    def name(self, state: State) -> Name:
        """Return the name under which a state is kept."""
        mask = self.mask(state)
        recover = self.name_recovery(state)
        if recover == NONE.name:
            return (mask.sha256,)
        results = self.board.results
        measured = False
        if state == "recovered":
            # A missing one may exist once it is measured here.
            measured = results.outcomes(mask, recover) is not None and not results.ships(mask, recover)
        return mask.sha256, recover, self.board.bench.recoveries.inputs_sha256, measured

    def describe(self, state: State) -> str:
        """Return a state in words that follow a number of heads."""
        return RECOVERIES[self.name_recovery(state)].beside

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
        recovered = self.recovery is None or self.is_read("recovered")
        known = {
            "full": self.is_read("full"),
            "recovered": recovered or self.name("recovered") in self.known.tried,
            "quick": recovered or "quick" not in self.kept or self.is_read("quick"),
            "pruned": self.is_read("pruned"),
            "maps": self.continues or self.known.maps is not None,
            "curve": self.find_curve("pruned") is not None,
        }
        return [part for part, is_known in known.items() if not is_known]

    @property
    def is_of_run(self) -> bool:
        """Whether the run on screen has the mask and the recovery of the board."""
        run = self.board.results.run
        return run is not None and (run.mask.sha256, run.settings.recover) == (self.board.mask.sha256, self.recovery)

    def find_probabilities(self, state: State) -> Floats | None:
        """Return the class probabilities of a state, as they were read or over the budgets (None: not measured)."""
        reading = self.read(state)
        if reading is not None:
            return reading.probabilities
        mask = self.mask(state)
        curve = self.find_curve(state)
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
        if state == "recovered" and self.is_of_run:
            return continuation.recovered
        return None

    @property
    def lacks_recovered(self) -> bool:
        """Whether the recovered model of the board was not found, and can be computed before it reads the text."""
        if self.recovery is None or RECOVERIES[self.recovery].trains or self.is_read("recovered"):
            return False
        return self.name("recovered") in self.known.tried


def measure(text: TextOnBoard, parts: Sequence[str], progress: Progress) -> Generator[None, None, bool]:
    """Measure missing parts, and let work of other sessions pass where it yields.

    Of recovered models only quick ones are computed.
    """
    bench = text.board.bench
    known = text.known
    for part in parts:
        if part == "maps":
            known.maps = read_maps(bench.model, known.text)
        elif part == "curve":
            curve = over_budgets(bench.model, known.text, text.masks, progress=progress)
            known.curves[text.table_name, NONE.name] = curve
        elif part != "quick" or not text.is_read("recovered"):
            yield from _read(text, cast(State, part), progress)
        yield
        progress("own text", 0, 1)
    return True


def _read(text: TextOnBoard, state: State, progress: Progress) -> Generator[None, None, None]:
    from cahp.models import split_text

    bench = text.board.bench
    model = bench.model
    name = text.name(state)
    mask: HeadMask | None = text.mask(state)
    recover = text.name_recovery(state)
    if recover != NONE.name:
        recovered = bench.recoveries.read(text.mask(state), recover)
        if recovered is None and state == "quick":
            recovered = bench.recoveries.refit(text.mask(state), recover)
        yield
        if recovered is None:
            text.known.tried.add(name)
            return
        model = cut_model(model, text.mask(state), recovered)
        mask = None
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


def _measure_curve(text: TextOnBoard, progress: Progress) -> Generator[None, None, bool]:
    bench = text.board.bench
    recover = text.name_recovery("quick")
    masks = [mask for mask in text.masks if not mask.empty_layers]
    rows = list[Floats]()
    for mask in masks:
        progress(STAGE, len(rows), len(masks))
        rows.append(read_recovered(bench, text.known.text, mask, recover, keep=False))
        yield
    budgets = tuple(mask.count for mask in masks)
    text.known.curves[text.table_name, recover] = AnswersOverBudgets(budgets, np.stack(rows))
    return True


#: Run one text under the masks of all budgets after a quick recovery, in the background.
CURVE: Kind[TextOnBoard, bool] = Kind(
    _measure_curve,
    lambda text: f"own_text_curve-{text.known.number}-{text.table_name[:12]}-{text.name_recovery('quick')}",
    Rank.BACKGROUND,
    newest=True,
)


# The text of the session -----------------------------------------------------------------------------------------


def put_on_board(explorer: Explorer, *, line: bool) -> TextOnBoard:
    """Draw the box for the text, on one ``line`` or several, and return it on the board; the last text is kept."""
    typed = own_text_box(explorer.bench, line=line)
    known: KnownText | None = st.session_state.get(_MEMORY)
    if known is None or (known.model, known.text) != (explorer.card.sha256, typed):
        st.session_state[_MEMORY] = known = KnownText(explorer.card.sha256, typed)
    explorer.memory[TEXT_MAPS] = known
    return TextOnBoard(explorer.board_state(), known)


def load_ahead(explorer: Explorer) -> None:
    """Load a small model ahead, in a quiet moment, once in a session: the first text and click answer at once."""
    if 0 < int(explorer.card.details.get("bytes", 0)) <= _SMALL:
        warm(explorer)


def start_reading(explorer: Explorer, text: TextOnBoard) -> str:
    """Start what is missing; return how far it is (empty: nothing is in progress)."""
    typed = not is_own_example(explorer.bench, text.known.text)
    if text.missing:
        job = explorer.work.job(OWN_TEXT, text)
        # What was missing may be there by now.
        if job is None or job.result:
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
    has_curve = text.continues or any(text.find_curve(state) is not None for state in text.kept)
    if "quick" in text.kept and not has_curve and explorer.work.job(CURVE, text) is None:
        explorer.work.start(CURVE, text)
    if not text.lacks_recovered:
        return ""
    # A refit belongs to the mask: another text does not begin it anew.
    refit = explorer.work.job(REFIT, text.board)
    if refit is None and typed and (REFIT.seconds(text.board) or 0) <= _UNASKED_S:
        refit = explorer.work.start(REFIT, text.board)
    if refit is None or refit.ended:
        return ""
    return f"{describe_progress(refit, 'Refitting')}…"


def draw_recovered_work(explorer: Explorer, text: TextOnBoard) -> None:
    """Draw how far the recovered model of the board is, why it has no result, or the button that computes it."""
    if text.lacks_recovered:
        beside = text.describe("recovered")
        name = "own-text-recovered"
        job_card(explorer, REFIT, text.board, name=name, title=f"The same {beside}", offer=f"Read it {beside}")


def use_stored(text: TextOnBoard) -> None:
    """Take the stored answers to a text under the masks of the board's budgets, if there are any."""
    bench = text.board.bench
    stored = bench.resources.store.read(name_text(bench.card.sha256, text.known.text, text.masks), read_example)
    if stored is not None:
        text.known.maps, curves = stored
        for recover, curve in curves.items():
            text.known.curves[text.table_name, recover] = curve
        states: tuple[State, ...] = ("full", "pruned", *text.kept)
        for state in states:
            probabilities = text.find_probabilities(state)
            if probabilities is not None:
                text.known.readings.setdefault(text.name(state), TextReading(probabilities, 0))
