"""One text continued by the full, the pruned and the recovered model, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from cahp.features.own_text.continuation import Continuation
from cahp.ui.parts import display
from cahp.ui.parts.display import plain


def draw(continuation: Continuation, labels: Mapping[str, str], *, of: int) -> None:
    """Draw the tokens so far, of ``of``, of each model that has one of ``labels``, by the name of its state."""
    models = {state: written for state, written in continuation.models.items() if state in labels}
    longest = max(len(tokens) for tokens, _ in models.values())
    columns = {labels[state]: [*tokens, *[""] * (longest - len(tokens))] for state, (tokens, _) in models.items()}
    display.heading(
        describe(continuation, labels, of=of),
        help="Each model adds its most probable token, again and again. The first token that differs from the full "
        "model's is marked. One text is an example and has no interval.",
        name="own-text-continued",
        data={"token": list(range(1, longest + 1)), **columns},
    )
    for column, (state, (tokens, differs)) in zip(st.columns(len(models), gap="small"), models.items(), strict=True):
        with column:
            st.caption(f"**{labels[state]}**")
            st.markdown(mark(tokens, differs))


def describe(continuation: Continuation, labels: Mapping[str, str], *, of: int) -> str:
    """Return at which token, counted from 1, the other models first differ from the full one."""
    models = {labels[state]: tokens for state, tokens in continuation.models.items() if state in labels}
    written = min(len(tokens) for tokens, _ in models.values())
    others = [(label, differs) for label, (_, differs) in models.items() if label != labels["full"]]
    changed = [f"at token {at + 1} with {label}" for label, at in others if at is not None]
    same = [label for label, at in others if at is None]
    if written < of and not changed:
        return f"Continuing: {written} of {of} tokens"
    if not others:
        return f"{of} tokens by {labels['full']}"
    if not changed:
        return f"All {of} tokens stay the same with {' and '.join(same)}"
    also = ""
    if same and written == of:
        also = f", not with {' or '.join(same)}"
    return f"The continuation changes {', '.join(changed)}{also}"


def mark(tokens: tuple[str, ...], differs: int | None) -> str:
    """Return tokens as Markdown without markup of their own; the one that ``differs`` is marked."""
    shown = [token.replace("\n", " ⏎ ") for token in tokens]
    if differs is None:
        return _escape("".join(shown))
    before = "".join(shown[:differs])
    token = shown[differs]
    after = "".join(shown[differs + 1 :])
    # A mark around a space at its end would not be read as one.
    gap = " " * token.startswith(" ")
    return f"{_escape(before)}{gap}:orange-background[**▸{plain(token) or '␣'}**]{_escape(after)}"


def _escape(text: str) -> str:
    """Escape a part of a sentence for Markdown, with one space at each end that has any."""
    return f"{' ' * (text[:1] == ' ')}{plain(text)}{' ' * (text[-1:] == ' ' and bool(text.strip()))}"
