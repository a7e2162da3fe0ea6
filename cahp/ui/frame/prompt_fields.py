"""Boxes for the prompt and answers of a language model, and a preview of one text in the prompt."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp import data, models
from cahp.cards import ModelCard
from cahp.models.language import add_prompt
from cahp.run.command_line import to_text
from cahp.run.settings import Settings
from cahp.ui.parts.display import plain
from cahp.values import Input

#: Characters that are shown from both ends of a long prompt.
_SHOWN = 600
_DEFAULTS = {"causal": "{text} It was", "masked": "{text} It was {mask}."}
_HELP = (
    "{text} stands for the text, {premise} and {hypothesis} for the two of a pair. A masked model answers at {mask}, a "
    "causal one after the end. Long texts are shortened, the prompt is not."
)


def draw(card: ModelCard) -> ModelCard | None:
    """Draw the boxes and return the model's card with this prompt (None: there are no answers yet).

    Raises:
        CahpError: If the prompt or the answers do not work with this model.
    """
    assert card.language is not None
    st.caption(
        f"A {card.language} language model without a classification head: it completes a prompt with a word per class."
    )
    template = st.text_area("Prompt", _DEFAULTS[card.language], key=f"prompt-{card.language}", height=68, help=_HELP)
    answers = st.text_input(
        "Answers",
        key="prompt-answers",
        placeholder="terrible, okay, great",
        help="A word for each class, in the order of the data's classes, with commas between them.",
    )
    if not answers.strip():
        return None
    return add_prompt(card, models.make_prompt(template, data.parse_answers(answers)))


def fill_in(linked: Settings) -> None:
    """Fill the boxes with the prompt and answers of a link."""
    if linked.prompt is not None:
        for language in _DEFAULTS:
            st.session_state[f"prompt-{language}"] = linked.prompt
        st.session_state["prompt-answers"] = to_text(tuple(linked.answers))


def settings(card: ModelCard) -> dict[str, Any]:
    """Return the settings with the prompt of ``card``."""
    return {} if card.prompt is None else {"prompt": card.prompt.template, "answers": card.prompt.answers}


def preview(card: ModelCard, text: Input | None = None) -> None:
    """Show a text, or an example, in the prompt, and the tokens of the answers.

    Raises:
        CahpError: If two answers have the same tokens.
    """
    reading = models.preview_prompt(card, text)
    if reading is None:
        return
    prompt = reading.prompted
    if len(prompt) > 2 * _SHOWN:
        prompt = f"{prompt[:_SHOWN]} […] {prompt[-_SHOWN:]}"
    st.caption("Prompt with an example:" if text is None else "Prompt with the first text:")
    with st.container(key="prompt-example" if text is None else "prompt-preview"):
        st.text(prompt)
    words = [f"**{plain(answer.word)}** ({plain(repr(answer.shown))})" for answer in reading.answers]
    if words:
        st.caption(f"Expected answers and their tokens: {', '.join(words)}")
    if reading.notice is not None:
        st.caption(plain(reading.notice))
