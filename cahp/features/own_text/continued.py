"""One text continued by the full, the pruned and the recovered model, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher

import streamlit as st

from cahp.features.own_text.section import Continuation
from cahp.ui.parts import display
from cahp.ui.parts.display import plain
from cahp.words import safe

#: Words of the prompt that are shown before its continuation.
_TAIL = 3


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


# Two continuations, in words -----------------------------------------------------------------------------------


def find_different_words(full: Sequence[str], other: Sequence[str]) -> set[int]:
    """Return the places of words of ``other`` that ``full`` does not have in the same order."""
    different = set[int]()
    for kind, _, _, start, end in SequenceMatcher(None, full, other, autojunk=False).get_opcodes():
        if kind != "equal":
            different.update(range(start, end))
    return different


def continuation_html(prompt: str, tokens: Sequence[str], full: Sequence[str]) -> str:
    """Return the HTML of the end of a prompt and its continuation; words that differ from ``full`` are underlined."""
    written = "".join(tokens)
    words = written.split()
    different = find_different_words("".join(full).split(), words)
    html = f'<span class="tail">… {safe(" ".join(prompt.split()[-_TAIL:]))}</span>'
    # Punctuation stands at the end of the prompt.
    gap = " " * (written[:1].isspace() or not written)
    for place, word in enumerate(words):
        tag = "span"
        if place in different:
            tag = "u"
        if tag == "u" and place - 1 in different:
            # The space between two underlined words is underlined, too.
            gap = "<u> </u>"
        # They appear one after the other.
        html += f'{gap}<{tag} class="written" style="--at: {place}">{safe(word)}</{tag}>'
        gap = " "
    return f"<p>{html}</p>"
