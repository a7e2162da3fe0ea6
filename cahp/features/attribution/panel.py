"""The tab that shows which heads matter for a person's own text, and the colouring of the board by it.

The worker measures. Texts and their results live in the session only: in no file, address or log.
"""

from dataclasses import dataclass, field
from itertools import count

import numpy as np
import streamlit as st

from cahp.board import NEUTRAL
from cahp.features.attribution.measuring import TextQuestion, attribute_answer, find_baseline
from cahp.features.attribution.result import Attribution, show_attribution, signed_nats
from cahp.run import Bench
from cahp.show import Marks
from cahp.ui.frame import BoardColouring, Panel, job_card
from cahp.ui.parts import draw_blocks, has_words, note_refusal, own_text_box, plain, read_own_text
from cahp.ui.session import Explorer, Kind
from cahp.values import Input, Progress

#: The lower end of each band, as a share of the largest change, with the sign, the words and the colour of the band:
#: from dark blue over the neutral colour to orange.
_BANDS = (
    (-np.inf, "+++", "supports it most", "#08306B"),
    (-0.5, "++", "supports it", "#0072B2"),
    (-0.15, "+", "supports it a little", "#7FB8D8"),
    (-0.02, "", "hardly matters", NEUTRAL),
    (0.02, "−", "a little against it", "#F0B07A"),
    (0.15, "−−", "against it", "#D55E00"),
)


def mark_text(result: Attribution) -> Marks:
    """Draw the estimated change without each head in bands of the largest change."""
    changes = result.changes
    most = float(np.abs(changes).max()) or 1.0
    starts, signs, words, colours = zip(*_BANDS, strict=True)
    groups = np.searchsorted(starts, changes / most, side="right") - 1
    return Marks(
        "attribution",
        "this text",
        groups,
        signs,
        words,
        f"The answer on this text: estimated change of its log-probability without a {result.unit}, relative to the "
        "largest",
        colours,
    )


#: The name under which a session keeps the last attribution of its model and data.
_MEMORY = "attribution.text"


@dataclass(eq=False)
class AttributedText:
    """A text and a wanted answer (None: the predicted one) with the result; ``number`` names them in logs."""

    bench: Bench
    text: Input
    answer: str | None
    result: Attribution | None = None
    number: int = field(default_factory=count(1).__next__)


def _attribute(asked: AttributedText, progress: Progress) -> Attribution:
    bench = asked.bench
    question = TextQuestion.read(bench.model, asked.text, find_baseline(bench))
    floor = bench.settings.budget_rules(bench.card).minimum
    asked.result = attribute_answer(
        question, bench.class_names, asked.answer, seed=bench.settings.seed, floor=floor, progress=progress
    )
    return asked.result


#: Attribute the answer on one text. A job whose text was replaced is dropped.
ATTRIBUTE: Kind[AttributedText, Attribution] = Kind(
    _attribute, lambda asked: f"attribution-{asked.number}", newest=True
)


def know_text(explorer: Explorer) -> Attribution | None:
    """Return the attribution of the text of this session (None: there is none yet)."""
    asked: AttributedText | None = explorer.memory.get(_MEMORY)
    if asked is None or asked.bench is not explorer.bench:
        return None
    typed = read_own_text(explorer.bench)
    if typed is not None and typed != asked.text:
        # Another text was typed, maybe on another page.
        return None
    return asked.result


def draw_tab(explorer: Explorer) -> None:
    """Draw the tab below the board."""
    left, right = st.columns([2, 3], gap="medium")
    with left:
        text = own_text_box(explorer.bench)
        answer = _draw_answer(explorer)
    if not has_words(text):
        right.info("Type a text, or insert an example.")
        return
    asked: AttributedText | None = explorer.memory.get(_MEMORY)
    if asked is None or (asked.text, asked.answer) != (text, answer) or asked.bench is not explorer.bench:
        # Only the results of the last text are kept.
        asked = AttributedText(explorer.bench, text, answer)
        explorer.memory[_MEMORY] = asked
    result = asked.result
    if result is None:
        with left:
            result = job_card(explorer, ATTRIBUTE, asked, name="attribution", title="Measuring the heads")
    if result is None:
        return
    with right:
        draw_blocks([*show_attribution(result), mark_text(result)])
    needed = result.needed
    if needed is None:
        return

    def put() -> None:
        with note_refusal():
            explorer.board.set_mask(needed.mask)

    st.button("Keep only what this text needs", key="attribution-keep", on_click=put)


def _draw_answer(explorer: Explorer) -> str | None:
    """Draw the choice of the answer, and return it (None: the predicted one)."""
    if explorer.card.task.predicts_often:
        token = st.text_input(
            "Next token",
            key="attribution-token",
            placeholder="the predicted one",
            help="One token that follows the text: most words begin with a space. Empty: the model's own.",
        )
        return token or None
    answer: str | None = st.selectbox(
        "Class",
        explorer.bench.class_names,
        index=None,
        key="attribution-class",
        placeholder="the predicted one",
        help="The class whose log-probability is explained. Empty: the model's own prediction.",
    )
    return answer


def draw_head(explorer: Explorer, head: int) -> None:
    """Draw in the card of a head what it contributes to the answer on the text of this session, if that is known."""
    result = know_text(explorer)
    if result is not None:
        st.caption(plain(describe_contribution(result, head)))


def describe_contribution(result: Attribution, head: int) -> str:
    """Describe what one head contributes to the answer: the estimated change without it, and its rank."""
    change = signed_nats(float(result.changes.flat[head]))
    return (
        f"Your text: without this {result.unit} the {result.metric} of {result.shown_answer} changes by about {change} "
        f"nats; {result.order.index(head) + 1} of {len(result.order)} by support."
    )


CARD = Panel("Your text", draw_head, place=5)
TAB = Panel("Which heads matter?", draw_tab, place=15, name="heads")
THIS_TEXT = BoardColouring("attribution", "this text", mark_text, know_text)
