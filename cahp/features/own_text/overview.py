"""A person's text on the first screen: a sentence on the board, or of a language model its continuations below.

The example of a bundled run ships with its answers, so that no model is needed for it. Another text is read by the
worker: with all heads and with those of the board as pruned at once, and then after the recovery.
"""

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

import streamlit as st

from cahp.board import Sentence, SentenceAnswer
from cahp.features.own_text.on_board import (
    State,
    TextOnBoard,
    draw_recovered_work,
    load_ahead,
    put_on_board,
    start_reading,
    use_stored,
)
from cahp.ui.frame import FirstText
from cahp.ui.parts import parts_of
from cahp.ui.session import Explorer
from cahp.values import Floats
from cahp.words import capital, safe

#: Words of the prompt that are shown before its continuation.
_TAIL = 3


def _read_above(explorer: Explorer) -> Sentence | None:
    if explorer.card.task.predicts_often:
        return None
    load_ahead(explorer)
    text = put_on_board(explorer, line=True)
    use_stored(text)
    answers: dict[State, SentenceAnswer] = {}
    for state in ("full", *text.kept):
        probabilities = text.find_probabilities(state)
        if probabilities is not None:
            answers[state] = _name(explorer, probabilities)
    shown = next((state for state in text.kept if state in answers), text.kept[-1])
    waits = ""
    if text.known.maps is None or not {"full", text.kept[0]} <= answers.keys():
        waits = start_reading(explorer, text)
    sentence = Sentence(text.known.maps, (), (), answers.get("full"), answers.get(shown), text.describe(shown), waits)
    for over in text.kept:
        curve = text.find_curve(over)
        if curve is not None:
            rows = [_name(explorer, row) for row in curve.probabilities]
            return replace(sentence, budgets=curve.budgets, answers=rows, over=text.describe(over))
    return sentence


def _name(explorer: Explorer, probabilities: Floats) -> SentenceAnswer:
    """Return the most probable class."""
    best = int(probabilities.argmax())
    return SentenceAnswer(explorer.bench.class_names[best], float(probabilities[best]))


# The continuations of a language model ---------------------------------------------------------------------------


def _draw_below(explorer: Explorer) -> None:
    if not explorer.card.task.predicts_often:
        return
    load_ahead(explorer)
    text = put_on_board(explorer, line=True)
    waits = ""
    if any(text.read(state) is not None or text.find_written(state) is None for state in ("full", text.kept[0])):
        # Not all of them ship with the run on screen.
        waits = start_reading(explorer, text)
    shown = next((state for state in text.kept if text.find_written(state) is not None), text.kept[-1])
    draw_continuations(explorer, text, ["full", shown], waits)
    if not waits:
        draw_recovered_work(explorer, text)


def draw_continuations(explorer: Explorer, text: TextOnBoard, states: Sequence[State], waits: str = "") -> None:
    """Draw how the models of ``states``, the full one first, continue a text so far, and what is in progress."""
    unit = explorer.card.unit
    full = text.find_written("full") or ()
    with st.container(key="continuations"):
        for column, state in zip(st.columns(len(states), gap="medium"), states, strict=True):
            title = f"All {unit}s"
            if state != "full":
                title = f"Kept {unit}s, {text.describe(state)}"
            title = f"<b>{safe(title)}</b>"
            if waits and state != "full":
                # Beside the title, where it moves nothing.
                title += f'<span class="waits"> · {safe(capital(waits))}</span>'
            written = text.find_written(state) or ()
            html = continuation_html(" ".join(parts_of(text.known.text)), written, full)
            column.html(f'<div class="continued">{title}{html}</div>')


def continuation_html(prompt: str, tokens: Sequence[str], full: Sequence[str]) -> str:
    """Return the HTML of the end of a prompt and its continuation; words that differ from ``full`` are underlined."""
    written = "".join(tokens)
    words = written.split()
    different = set[int]()
    matcher = SequenceMatcher(None, "".join(full).split(), words, autojunk=False)
    for kind, _, _, start, end in matcher.get_opcodes():
        if kind != "equal":
            different.update(range(start, end))
    html = f'<span class="tail">… {safe(" ".join(prompt.split()[-_TAIL:]))}</span>'
    # Punctuation stands at the end of the prompt.
    gap = " " * (written[:1].isspace() or not written)
    for place, word in enumerate(words):
        tag = "span"
        if place in different:
            tag = "u"
        # They appear one after the other.
        html += f'{gap}<{tag} class="written" style="--at: {place}">{safe(word)}</{tag}>'
        gap = " "
    return f"<p>{html}</p>"


FIRST_TEXT = FirstText(_read_above, _draw_below)
