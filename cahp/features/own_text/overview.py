"""A person's text on the first screen: a sentence on the board, or of a language model its continuations below.

The example of a bundled run ships with its answers, so that no model is needed for it. Another text is read by the
worker: with all heads and with those of the board as pruned at once, and then after the recovery.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from cahp.board import Sentence, SentenceAnswer
from cahp.features.own_text.measuring import AnswersOverBudgets, ShippedSentence, read_sentence
from cahp.features.own_text.on_board import (
    OWN_TEXT,
    TextOnBoard,
    load_ahead,
    put_on_board,
    start_recovered,
)
from cahp.features.own_text.panel import continuation_html, draw_recovered_work, offer_recovered_again
from cahp.features.own_text.section import CONTINUATION, Continuation
from cahp.recoveries import NONE, RECOVERIES
from cahp.ui.frame import FirstText, describe_progress
from cahp.ui.parts.inputs import is_own_example, own_text_box, parts_of
from cahp.ui.session import Explorer, Rank
from cahp.values import Floats, HeadMask
from cahp.words import safe

#: Seconds that a page waits for the first answer to a text before it tells how far that is.
_PATIENCE_S = 0.7


def _read_above(explorer: Explorer) -> Sentence | None:
    if explorer.card.task.predicts_often:
        return None
    load_ahead(explorer)
    text = put_on_board(explorer, own_text_box(explorer.bench, line=True))
    shipped = _find_shipped(explorer, text)
    if shipped is not None:
        text.known.maps = shipped.maps.decode()
        text.known.curves = {shipped.table: shipped.curve}
    waits = _start_work(explorer, text, wanted=shipped is None or not _has_kept(explorer, text))
    offer_recovered_again(explorer, text)
    curve = text.known.curves.get(text.table_name)
    full = _answer(explorer, text, HeadMask.full(text.board.mask.layers, text.board.mask.heads), curve)
    kept = _answer(explorer, text, text.board.mask, curve)
    state = RECOVERIES[NONE.name].beside
    recovered = _answer_recovered(explorer, text, shipped)
    if recovered is not None:
        kept = recovered
        assert text.recovery is not None
        state = RECOVERIES[text.recovery].beside
    sentence = Sentence(text.known.maps, full=full, kept=kept, state=state, waits=waits)
    if curve is None:
        return sentence
    answers = [_name(explorer, row) for row in curve.probabilities]
    return Sentence(text.known.maps, curve.budgets, answers, full, kept, state, waits)


def _find_shipped(explorer: Explorer, text: TextOnBoard) -> ShippedSentence | None:
    """Return the bundled answers to a text under the masks of the board's budgets (None: there are none)."""
    shipped = read_sentence(explorer.card.id)
    if shipped is None or (shipped.model, shipped.text) != (explorer.card.identity, text.known.text):
        return None
    if shipped.table != text.table_name:
        return None
    return shipped


def _has_kept(explorer: Explorer, text: TextOnBoard) -> bool:
    """Whether the mask on the board is that of a budget, whose answer is on the curve."""
    table = explorer.table()
    return table is not None and table.has(text.board.mask)


def _start_work(explorer: Explorer, text: TextOnBoard, *, wanted: bool) -> str:
    """Start what is missing, if it is ``wanted``; return how far it is (empty: nothing is missing)."""
    if not wanted:
        return ""
    typed = not is_own_example(explorer.bench, text.known.text)
    rank = Rank.QUICK
    patience = _PATIENCE_S
    if not typed:
        patience = 0.0
        if not explorer.board.by_hand:
            rank = Rank.UNASKED
    if text.missing:
        job = explorer.work.job(OWN_TEXT, text)
        if job is None:
            job = explorer.work.start(OWN_TEXT, text, rank=rank)
            job.wait(patience)
        if job.error:
            return job.error
        if not job.ended:
            return f"{describe_progress(job, 'Reading your sentence')}…"
    recovered = None
    if typed:
        recovered = start_recovered(explorer, text)
    if recovered is not None and not recovered.ended:
        return f"{describe_progress(recovered, 'Refitting for your sentence')}…"
    return ""


def _answer(
    explorer: Explorer, text: TextOnBoard, mask: HeadMask, curve: AnswersOverBudgets | None
) -> SentenceAnswer | None:
    """Return the answer under a mask as pruned, as it was read or is on the curve (None: it is not measured)."""
    reading = text.reading(mask)
    if reading is not None:
        return _name(explorer, reading.probabilities)
    table = explorer.table()
    if curve is None or table is None or not table.has(mask) or mask.count not in curve.budgets:
        return None
    return _name(explorer, curve.probabilities[curve.budgets.index(mask.count)])


def _answer_recovered(explorer: Explorer, text: TextOnBoard, shipped: ShippedSentence | None) -> SentenceAnswer | None:
    """Return the answer of the recovered model of the board (None: it is not measured)."""
    if text.recovery is None:
        return None
    reading = text.reading(text.board.mask, text.recovery)
    if reading is not None:
        return _name(explorer, reading.probabilities)
    run = explorer.results.run
    if shipped is None or run is None or text.recovery != run.settings.recover:
        return None
    if run.mask.sha256 != text.board.mask.sha256:
        return None
    return _name(explorer, shipped.recovered)


def _name(explorer: Explorer, probabilities: Floats | Sequence[float]) -> SentenceAnswer:
    """Return the most probable class."""
    values = list(probabilities)
    best = values.index(max(values))
    return SentenceAnswer(explorer.bench.class_names[best], float(values[best]))


# Below the board: the continuations of a language model ---------------------------------------------------------


def _draw_below(explorer: Explorer) -> None:
    if not explorer.card.task.predicts_often:
        return
    load_ahead(explorer)
    text = put_on_board(explorer, own_text_box(explorer.bench, line=True))
    shipped = _find_continuation(explorer, text)
    finished = shipped is not None and _is_of_board(explorer, text)
    waits = ""
    full: Sequence[str]
    shown: Sequence[str]
    if shipped is not None and finished:
        full = shipped.full
        shown = shipped.recovered or shipped.pruned
        state = explorer.recovery.row.beside
    else:
        waits = _start_work(explorer, text, wanted=True)
        shown, state = _choose_written(text)
        full = _find_full(text, shipped)
    unit = explorer.card.unit
    titles = [f"<b>{safe(title)}</b>" for title in (f"All {unit}s", f"Kept {unit}s, {state}")]
    if waits:
        # Beside the title, where it moves nothing.
        titles[1] += f'<span class="waits"> · {safe(waits)}</span>'
    with st.container(key="continuations"):
        for column, title, tokens in zip(st.columns(2, gap="medium"), titles, (full, shown), strict=True):
            html = continuation_html(" ".join(parts_of(text.known.text)), tokens, full)
            column.html(f'<div class="continued">{title}{html}</div>')
    if not finished:
        draw_recovered_work(explorer, text)


def _is_of_board(explorer: Explorer, text: TextOnBoard) -> bool:
    """Whether the run on screen has the mask and the recovery of the board."""
    run = explorer.results.run
    if run is None:
        return False
    return (run.mask.sha256, run.settings.recover) == (text.board.mask.sha256, text.board.recover)


def _find_full(text: TextOnBoard, shipped: Continuation | None) -> Sequence[str]:
    """Return the tokens so far with which the full model continues a text; those of a run stay under every mask."""
    if shipped is not None:
        return shipped.full
    written = text.written(HeadMask.full(text.board.mask.layers, text.board.mask.heads))
    if written is None:
        return ()
    return written.parts


def _find_continuation(explorer: Explorer, text: TextOnBoard) -> Continuation | None:
    """Return the continuations of the run on screen, if they are of this text."""
    run = explorer.results.run
    if run is None:
        return None
    continuation = CONTINUATION.read_run(run)
    if continuation is None or continuation.prompt != text.known.text:
        return None
    return continuation


def _choose_written(text: TextOnBoard) -> tuple[Sequence[str], str]:
    """Return the tokens so far after the recovery of the board, or else as pruned, and the words of that state."""
    mask = text.board.mask
    if text.recovery is not None:
        recovered = text.written(mask, text.recovery)
        if recovered is not None:
            return recovered.parts, RECOVERIES[text.recovery].beside
    pruned = text.written(mask)
    if pruned is None:
        return (), RECOVERIES[NONE.name].beside
    return pruned.parts, RECOVERIES[NONE.name].beside


FIRST_TEXT = FirstText(_read_above, _draw_below)
