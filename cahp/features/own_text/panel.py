"""The tab of a person's own text: predictions with all heads and with those on the board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import streamlit as st

from cahp.features.own_text import figure as figures
from cahp.features.own_text.measuring import AnswersOverBudgets, TextReading, likeliest
from cahp.features.own_text.on_board import (
    OWN_TEXT,
    RECOVERED,
    TextOnBoard,
    expect_seconds,
    put_on_board,
    start_recovered,
)
from cahp.features.own_text.section import TOKENS, Continuation, Tokens
from cahp.recoveries import RECOVERIES
from cahp.ui.frame import Panel, follow, job_card, show_job
from cahp.ui.parts import display
from cahp.ui.parts.display import plain
from cahp.ui.parts.inputs import has_words, own_text_box
from cahp.ui.session import Explorer
from cahp.values import HeadMask
from cahp.words import capital, duration, percent, safe

#: Words of the prompt that are shown before its continuation.
_TAIL = 3


def draw_continuations(continuation: Continuation, labels: Mapping[str, str], *, of: int) -> None:
    """Draw the tokens so far, of ``of``, of each model that has one of ``labels``, by the name of its state."""
    models = {state: written for state, written in continuation.models.items() if state in labels}
    longest = max(len(tokens) for tokens, _ in models.values())
    columns = {labels[state]: [*tokens, *[""] * (longest - len(tokens))] for state, (tokens, _) in models.items()}
    display.heading(
        describe_continuations(continuation, labels, of=of),
        help="Each model adds its most probable token, again and again. The first token that differs from the full "
        "model's is marked. One text is an example and has no interval.",
        name="own-text-continued",
        data={"token": list(range(1, longest + 1)), **columns},
    )
    for column, (state, (tokens, differs)) in zip(st.columns(len(models), gap="small"), models.items(), strict=True):
        with column:
            st.caption(f"**{labels[state]}**")
            st.markdown(mark_difference(tokens, differs))


def describe_continuations(continuation: Continuation, labels: Mapping[str, str], *, of: int) -> str:
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


def mark_difference(tokens: tuple[str, ...], differs: int | None) -> str:
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


def draw(explorer: Explorer) -> None:
    """Draw the tab below the board."""
    left, right = st.columns([2, 3], gap="medium")
    with left:
        typed = own_text_box(explorer.bench)
    if not has_words(typed):
        right.info("Type a text, or insert an example.")
        return
    text = put_on_board(explorer, typed)
    with left:
        _draw_work(explorer, text)
    _draw_results(explorer, text, left, right)


def _draw_work(explorer: Explorer, text: TextOnBoard) -> None:
    """Run what is missing, with progress and a way to cancel."""
    if text.missing:
        job_card(explorer, OWN_TEXT, text, name="own-text")
    draw_recovered_work(explorer, text)


def draw_recovered_work(explorer: Explorer, text: TextOnBoard) -> None:
    """Compute the recovered model of the board for the text, unasked where that is quick."""
    if not text.lacks_recovered or offer_recovered_again(explorer, text):
        return
    assert text.recovery is not None
    job = start_recovered(explorer, text)
    result = RECOVERIES[text.recovery].beside
    if job is not None and not job.ended:
        follow(job, name="own-text-recovered", title=f"The same {result}")
    elif st.button(f"Read it {result} (about {duration(expect_seconds(text))})", key="own-text-recovered"):
        explorer.work.start(RECOVERED, text)
        st.rerun(scope="fragment")


def offer_recovered_again(explorer: Explorer, text: TextOnBoard) -> bool:
    """Show why the recovered model could not be computed, with a button to try again; return whether that is so."""
    job = explorer.work.job(RECOVERED, text)
    if job is None or not job.error or not text.lacks_recovered:
        return False
    show_job(job, lambda: explorer.work.start(RECOVERED, text), name="own-text-recovered")
    return True


def _draw_results(explorer: Explorer, text: TextOnBoard, left: Any, right: Any) -> None:
    mask = explorer.mask
    heads = explorer.card.layers * explorer.card.heads
    full = text.reading(HeadMask.full(mask.layers, mask.heads))
    pruned = text.reading(mask)
    if full is None:
        return
    models = {f"all {heads} {explorer.card.unit}s": full}
    if pruned is not None and mask.count < heads:
        models[f"{mask.count} as pruned"] = pruned
    recovered = None
    if text.recovery is not None:
        recovered = text.reading(mask, text.recovery)
        if recovered is not None:
            models[f"{mask.count} {RECOVERIES[text.recovery].beside}"] = recovered
    with left:
        if full.cut:
            st.warning(f"The model takes {len(full.tokens):,} tokens; {full.cut:,} more were truncated.")
        if text.recovery is not None and recovered is None and not text.missing:
            st.caption("This mask has no recovered model yet: choose a recovery on the board.")
        st.caption(
            f"One text is an example and has no interval. The board shows outcomes on "
            f"{explorer.bench.evaluation.measured}."
        )
    with right:
        if explorer.card.task.predicts_often:
            with st.container(key="own-text-continuation"):
                _draw_continuation(text, mask, dict(zip(("full", "pruned", "recovered"), models, strict=False)))
        _draw_probabilities(explorer, models, full)
    if pruned is None:
        return
    first, second = st.columns(2, gap="medium")
    with first:
        _draw_attention(full, pruned, mask.count, explorer.card.unit)
    curve = text.known.curves.get(text.table_name)
    if curve is not None:
        with second:
            _draw_curve(explorer, curve, full)


def _draw_continuation(text: TextOnBoard, mask: HeadMask, labels: Mapping[str, str]) -> None:
    """Draw how the models, which have ``labels``, continue the text so far."""
    full = text.written(HeadMask.full(mask.layers, mask.heads))
    recovered = None
    if "recovered" in labels and text.recovery is not None:
        recovered = text.written(mask, text.recovery) or Tokens()
    pruned = text.written(mask) or Tokens()
    if full is not None:
        draw_continuations(Continuation.of("", full, pruned, recovered), labels, of=TOKENS)


def _draw_probabilities(explorer: Explorer, models: dict[str, TextReading], full: TextReading) -> None:
    names = _list_names(explorer, models)
    shown = list(names)
    marked = ""
    if full.words is not None:
        shown = likeliest([reading.probabilities for reading in models.values()])
        marked = " The most probable tokens are drawn; ␣ is a space, ⏎ a line break."
    rows = {name: reading.probabilities[shown] for name, reading in models.items()}
    classes = [names[place] for place in shown]
    of = explorer.card.words.answer
    columns = {name: reading.round(5).tolist() for name, reading in rows.items()}
    display.show(
        figures.probabilities_figure(rows, classes, of=of, dark=display.is_dark()),
        title=_describe_predictions(models, full, names),
        help=f"Each mark is the probability of a {of} for this text: the circle with all heads, the square for the "
        "pruned model on the board, the diamond for the recovered one, if any. If the marks overlap, pruning does not "
        f"change this prediction.{marked}",
        formula=r"p_c=\frac{e^{z_c}}{\sum_i e^{z_i}}",
        name="own-text-probabilities",
        data={of: classes, **columns},
        alt="; ".join(
            f"{name}: {names[reading.answer]}, {percent(float(reading.probabilities.max()))}"
            for name, reading in models.items()
        ),
    )


def _list_names(explorer: Explorer, models: dict[str, TextReading]) -> dict[int, str]:
    """Return the names of classes, or of the most probable next tokens, by their places in the probabilities."""
    names: dict[int, str] = {}
    for reading in models.values():
        names |= reading.words or {}
    return names or dict(enumerate(explorer.bench.class_names))


def _describe_predictions(models: dict[str, TextReading], full: TextReading, names: Mapping[int, str]) -> str:
    others = {name: reading for name, reading in models.items() if reading is not full}
    (whole,) = models.keys() - others.keys()
    answer = f"“{names[full.answer]}”"
    prediction = "prediction"
    if full.words is not None:
        prediction = "next token"
    if not others:
        share = percent(float(full.probabilities.max()), 0)
        return f"{capital(prediction)} with {whole}: {answer} ({share})"
    changed = [
        f"“{names[reading.answer]}” with {name}" for name, reading in others.items() if reading.answer != full.answer
    ]
    if changed:
        return f"{answer} with {whole} becomes {' and '.join(changed)}"
    shares = ", ".join(
        f"{percent(float(reading.probabilities[full.answer]), 0)} with {name}" for name, reading in models.items()
    )
    return f"The {prediction} stays {answer}: {shares}"


def _draw_attention(full: TextReading, kept: TextReading, count: int, unit: str) -> None:
    shown = figures.words_to_show(full, kept)
    words = len(kept.tokens) - int(kept.special.sum())
    if not shown:
        return
    best = max(shown, key=lambda place: float(kept.attention[place]))
    share = percent(float(kept.attention[best]))
    title = f"The {count} kept {unit}s attend most to “{kept.tokens[best][:24]}” ({share})"
    if kept.special.any():
        special = float(kept.attention[kept.special].sum())
        title += f"; {percent(special, 0)} goes to special tokens"
    some = ""
    if len(shown) < words:
        some = f" The {len(shown)} of {words} words with most attention are drawn."
    display.show(
        figures.looked_at_figure(full, kept, unit=unit, dark=display.is_dark()),
        title=title,
        help="The share of attention on each word, averaged over heads and query tokens. Bars: the kept "
        f"{unit}s in the pruned model. Circles: all {unit}s in the full model. Special tokens such as [CLS] and [SEP] "
        f"get the rest; the table lists all tokens.{some}",
        formula=r"a_j=\frac{1}{|K|\,S}\sum_{h\in K}\sum_{i=1}^{S}A^{(h)}_{ij}",
        name="own-text-attention",
        data={
            "token": list(kept.tokens),
            "is a word": (~kept.special).tolist(),
            f"all {unit}s": full.attention.round(5).tolist(),
            f"kept {unit}s": kept.attention.round(5).tolist(),
        },
    )


def _draw_curve(explorer: Explorer, curve: AnswersOverBudgets, full: TextReading) -> None:
    total = explorer.card.layers * explorer.card.heads
    classes = explorer.bench.class_names
    if curve.words is not None:
        classes = tuple(curve.words.values())
    names = {**(full.words or {}), **(curve.words or {})} or dict(enumerate(classes))
    answer = f"“{names[full.answer]}”"
    steady = curve.steady_down_to(full.answer)
    if steady == curve.budgets[0]:
        title = f"The prediction is {answer} at all {len(curve.budgets)} measured budgets, as pruned"
    elif steady in (None, total):
        title = f"The prediction stays {answer} only with all {explorer.card.unit}s"
    else:
        title = f"The prediction stays {answer} down to {steady} of {total} {explorer.card.unit}s, as pruned"
    display.show(
        figures.over_budgets_figure(
            curve, classes, explorer.mask.count, unit=explorer.card.unit, dark=display.is_dark()
        ),
        title=title,
        help=f"The probability of each {explorer.card.words.answer} for this text at "
        f"{len(curve.budgets)} measured budgets, as pruned. The "
        "dashed line is the budget on the board.",
        name="own-text-budgets",
        data={
            f"{explorer.card.unit}s kept": list(curve.budgets),
            **{name: curve.probabilities[:, place].round(5).tolist() for place, name in enumerate(classes)},
        },
    )


TAB = Panel("Your own text", draw, place=10, name="text")
