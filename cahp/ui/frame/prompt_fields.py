"""What a language model is asked: a prompt and its answers, and how one text then reads."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp import data, models
from cahp.cards import ModelCard
from cahp.models.language import prompted
from cahp.run.command_line import to_text
from cahp.run.settings import Settings
from cahp.ui.parts.text import plain
from cahp.values import Input

#: Characters of a prompt that are shown at each of its ends.
_SHOWN = 600
_USUAL = {"causal": "{text} It was", "masked": "{text} It was {mask}."}
_HELP = (
    "{text} is where a text goes, or {premise} and {hypothesis} for pairs. A masked model answers at {mask}, a causal "
    "one after the end. Long texts are cut, the prompt never."
)


def draw(card: ModelCard) -> ModelCard | None:
    """Ask for prompt and answers; the card of the model that is asked so (None: there are no answers yet).

    Raises:
        CahpError: If they have no sense, alone or with this model, with the next step.
    """
    assert card.language is not None
    st.caption(
        f"A {card.language} language model without a classification head: it answers a prompt, by a word a class."
    )
    template = st.text_area("Prompt", _USUAL[card.language], key=f"prompt-{card.language}", height=68, help=_HELP)
    answers = st.text_input(
        "Answers",
        key="prompt-answers",
        placeholder="terrible, okay, great",
        help="A word for each class, in the order of the data's classes, with commas between them.",
    )
    if not answers.strip():
        return None
    return prompted(card, models.asked(template, data.parse_answers(answers)))


def fill_in(meant: Settings) -> None:
    """Put the prompt and the answers of a link into their boxes."""
    if meant.prompt is not None:
        for language in _USUAL:
            st.session_state[f"prompt-{language}"] = meant.prompt
        st.session_state["prompt-answers"] = to_text(tuple(meant.answers))


def settings(card: ModelCard) -> dict[str, Any]:
    """The settings that ask a model as ``card`` says."""
    return {} if card.prompt is None else {"prompt": card.prompt.template, "answers": card.prompt.answers}


def preview(card: ModelCard, one: Input | None = None) -> None:
    """How a text, or an example, reads in the prompt, and by which tokens it may be answered.

    Raises:
        CahpError: If the answers cannot be told apart by this model.
    """
    reading = models.reading(card, one)
    if reading is None:
        return
    said = reading.prompted
    if len(said) > 2 * _SHOWN:
        said = f"{said[:_SHOWN]} […] {said[-_SHOWN:]}"
    st.caption("It reads, and answers:" if one is None else "The first text reads, and is answered:")
    with st.container(key="prompt-example" if one is None else "prompt-preview"):
        st.text(said)
    words = [f"**{plain(answer.word)}** ({plain(repr(answer.shown))})" for answer in reading.answers]
    if words:
        st.caption(f"Answers, and the tokens that stand for them: {', '.join(words)}")
    if reading.notice is not None:
        st.caption(plain(reading.notice))
