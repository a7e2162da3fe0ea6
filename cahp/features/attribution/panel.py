"""The tab that shows which heads matter for a person's own text, and the colouring of the board by it.

The worker measures. Texts and their results live in the session only: in no file, address or log.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import streamlit as st

from cahp.board import NEUTRAL, Colouring, Painted
from cahp.features.attribution.measuring import AnswerWanted, TextQuestion, attribute_in_steps, find_baseline
from cahp.features.attribution.result import (
    Attribution,
    NeededHeads,
    changes_figure,
    describe_needed,
    read_check,
    sets_figure,
    signed_nats,
    top_figure,
)
from cahp.run import Bench
from cahp.ui.frame import BoardColouring, Panel, job_card
from cahp.ui.parts import display
from cahp.ui.parts.display import note_refusal, plain
from cahp.ui.parts.inputs import has_words, own_text_box, read_own_text
from cahp.ui.session import Explorer, Kind
from cahp.values import HeadMask, Input, Progress
from cahp.words import capital

#: The lower end of each band, as a share of the largest change, and the words of the band.
_BANDS = (
    (-np.inf, "supports it most"),
    (-0.5, "supports it"),
    (-0.15, "supports it a little"),
    (-0.02, "hardly matters"),
    (0.02, "a little against it"),
    (0.15, "against it"),
)
_SIGNS = ("+++", "++", "+", "", "−", "−−")
#: From dark blue over the neutral colour to orange.
_COLOURS = ("#08306B", "#0072B2", "#7FB8D8", NEUTRAL, "#F0B07A", "#D55E00")


def _paint(result: Attribution, mask: HeadMask) -> Painted:
    """Draw the estimated change without each head in bands of the largest change."""
    changes = result.changes.ravel()
    most = float(np.abs(changes).max()) or 1.0
    starts = [start for start, _ in _BANDS]
    groups = np.searchsorted(starts, changes / most, side="right") - 1
    return Painted(
        groups,
        groups,
        _SIGNS,
        tuple(words for _, words in _BANDS),
        f"The answer on this text: estimated change of its log-probability without a {result.unit}, relative to the "
        "largest",
        _COLOURS,
    )


BY_TEXT: Colouring[Attribution] = Colouring("attribution", "this text", _paint, follows_mask=True)


#: Session key of the wanted next token.
_TOKEN = "attribution-token"  # noqa: S105 - no secret
#: The name under which a session keeps the last attribution of its model and data.
_MEMORY = "attribution.text"


@dataclass(eq=False)
class AttributedText:
    """A text and a wanted answer (None: the predicted one) with the result so far; ``number`` names them in logs."""

    bench: Bench
    text: Input
    answer: str | None
    result: Attribution | None = None
    ended: bool = False
    number: int = field(default_factory=count(1).__next__)


def _attribute(asked: AttributedText, progress: Progress) -> Generator[None, None, bool]:
    bench = asked.bench
    baseline = find_baseline(bench)
    yield
    question = TextQuestion.read(bench.model, asked.text, baseline)
    floor = bench.settings.floor(bench.card.layers)
    wanted = AnswerWanted(asked.answer, bench.class_names)
    for result in attribute_in_steps(question, wanted, seed=bench.settings.seed, floor=floor, progress=progress):
        asked.result = result
        yield
    asked.ended = True
    return True


#: Attribute the answer on one text. A job whose text was replaced is dropped.
ATTRIBUTE: Kind[AttributedText, bool] = Kind(_attribute, lambda asked: f"attribution-{asked.number}", newest=True)


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


def draw(explorer: Explorer) -> None:
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
    with left:
        _draw_work(explorer, asked)
    result = asked.result
    if result is None:
        return
    with right:
        _draw_heads(explorer, result)
    if result.removed:
        first, second = st.columns(2, gap="medium")
        with first:
            _draw_top(result)
        with second:
            _draw_sets(result)
            _draw_needed(explorer, result, asked)
    _draw_evidence(explorer)


def _draw_answer(explorer: Explorer) -> str | None:
    """Draw the choice of the answer, and return it (None: the predicted one)."""
    if explorer.card.task.predicts_often:
        token = st.text_input(
            "Next token",
            key=_TOKEN,
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


def _draw_work(explorer: Explorer, asked: AttributedText) -> None:
    """Measure what is missing, with progress and a way to cancel."""
    if asked.ended:
        return
    job_card(explorer, ATTRIBUTE, asked, name="attribution", title="Measuring the heads")


def _draw_heads(explorer: Explorer, result: Attribution) -> None:
    layer, head = divmod(result.order[0], result.changes.shape[1])
    estimated = float(result.changes[layer, head])
    rows = result.rows
    does = f"supports {result.shown_answer} most"
    if estimated >= 0:
        does = f"speaks least against {result.shown_answer}"
    display.show(
        changes_figure(result, dark=display.is_dark()),
        title=f"{capital(result.unit)} {head} of layer {layer} {does}: without it the "
        f"{result.metric} changes by about {signed_nats(estimated)} nats",
        help=f"The estimated change of the {result.metric} if one {result.unit} alone gives its "
        f"{plain(result.baseline)} instead of its output (attribution patching: one forward and one backward pass for "
        "all). Blue: it supports the answer; orange: it speaks against it. Framed: removed exactly, below. One text is "
        "an example and has no interval.",
        formula=r"a_h=\sum_t \nabla_{x_{h,t}}\log p(\text{answer})\cdot(\bar x_h-x_{h,t})",
        name="attribution",
        data={name: [row[name] for row in rows] for name in rows[0]},
        alt="The top heads are listed below.",
    )
    st.caption(
        f"To see it on the board, colour it by “{BY_TEXT.label}”. The answer is {plain(result.shown_answer)}"
        f"{_describe_prediction(result)}."
    )


def _describe_prediction(result: Attribution) -> str:
    if result.answer == result.predicted:
        return ", the model's own"
    return f"; the model's own is {plain(result.shown_prediction)}"


def _draw_top(result: Attribution) -> None:
    display.show(
        top_figure(result, dark=display.is_dark()),
        title=f"The top {len(result.removed)} {result.unit}s, removed one at a time",
        help=f"The change of the {result.metric} without each of the {result.unit}s that support the answer most by "
        "attribution: as estimated (circles), and exact (dots), with the same baseline.",
        name="attribution-top",
        data={name: [getattr(one, name) for one in result.removed] for name in ("layer", "head", "estimated", "exact")},
    )


def _draw_sets(result: Attribution) -> None:
    assert result.together is not None
    display.show(
        sets_figure(result, dark=display.is_dark()),
        title=capital(result.finding),
        help=f"The exact change if the top {result.unit}s are removed together (dot), and if as many random ones are "
        f"(circles; the line is their median). Seed {result.seed} draws the random sets from all layers.",
        name="attribution-sets",
        data={
            "removed": ["top", *["random"] * len(result.random)],
            "change": [result.together, *result.random],
        },
    )


def _draw_needed(explorer: Explorer, result: Attribution, asked: AttributedText) -> None:
    if result.answer != result.predicted:
        st.caption("The model gives another answer, so no heads are enough for this one.")
        return
    if result.needed is None:
        return
    st.markdown(f"**{plain(capital(describe_needed(result, result.needed)))}.**")
    if asked.bench.settings.min_per_layer:
        st.caption(f"Each layer keeps at least {asked.bench.settings.min_per_layer}, as set for the board.")
    needed: NeededHeads = result.needed

    def put() -> None:
        with note_refusal():
            explorer.board.set_mask(needed.mask)

    st.button("Keep only what this text needs", key="attribution-keep", on_click=put)


def _draw_evidence(explorer: Explorer) -> None:
    """Draw, folded, how well attribution agrees with exact removal, where that was measured."""
    findings = read_check(explorer.card.identity)
    if findings is None:
        return
    with st.expander("How far can one trust it?"):
        st.markdown(f"{plain(findings[0])}.")
        st.markdown("\n".join(f"- {plain(finding)}" for finding in findings[1:]))
        st.caption("Medians over texts with 95 % intervals. Random: sets of as many, from all layers.")


def draw_head(explorer: Explorer, head: int) -> None:
    """Draw in the card of a head what it contributes to the answer on the text of this session, if that is known."""
    result = know_text(explorer)
    if result is not None:
        st.caption(plain(describe_contribution(result, head)))


def describe_contribution(result: Attribution, head: int) -> str:
    """Describe what one head contributes to the answer: the change without it, and its rank."""
    place = result.order.index(head)
    row = result.rows[place]
    change = f"about {signed_nats(row['estimated'])} nats"
    if row["exact"] is not None:
        change = f"{signed_nats(row['exact'])} nats"
    return (
        f"Your text: without this {result.unit} the {result.metric} of {result.shown_answer} changes by {change}; "
        f"{place + 1} of {len(result.order)} by support."
    )


CARD = Panel("Your text", draw_head, place=5)
TAB = Panel("Which heads matter?", draw, place=15, name="heads")
THIS_TEXT: BoardColouring[Attribution] = BoardColouring(BY_TEXT, know_text)
