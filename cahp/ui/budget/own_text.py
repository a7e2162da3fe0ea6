"""A person's own text: predictions with all heads and with those on the board.

Texts and their results live in the browser session only: in no file, address or log. The text itself also stays in the
browser's tab, so that a reload restores it.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from cahp.figures import own_text as figures
from cahp.recoveries import RECOVERIES
from cahp.run.timeline import on_screen
from cahp.studies.own_text import AnswersOverBudgets, TextReading
from cahp.ui.budget.text_readings import OWN_TEXT, TextMemory, TextOnBoard
from cahp.ui.frame.running import show_in_row
from cahp.ui.parts import display
from cahp.ui.parts.display import problem
from cahp.ui.parts.inputs import has_words, input_box, keep
from cahp.ui.session.explorer import Explorer
from cahp.values import HeadMask
from cahp.words import percent

_MEMORY = "own-text-memory"
#: Name of the panel's boxes; session key of its state; index of its first example, a topic of the embedded model.
_BOXES, _PANEL, _EXAMPLE = "own-text", "own-text-panel", 3
#: Seconds that a page waits for the worker before it shows progress.
_PATIENCE_S = 0.1


def draw(explorer: Explorer) -> None:
    """Draw the panel above the board; a closed panel costs nothing."""
    keep(_BOXES, {_PANEL: bool, **{f"{_BOXES}-{part}-{_EXAMPLE}": str for part in ("text", "first", "second")}})
    panel = st.expander("Your own text, before and after pruning", key=_PANEL, on_change="rerun")
    if not panel.open:
        return
    with panel:
        left, right = st.columns([2, 3], gap="medium")
        with left:
            text = input_box(
                _BOXES,
                "single" if explorer.bench.calibration.second is None else "pairs",
                label="Your text",
                place=_EXAMPLE,
            )
        if not has_words(text):
            with right:
                st.info("Type a text, or insert an example.")
            return
        memory: TextMemory = st.session_state.setdefault(_MEMORY, TextMemory())
        number, known = memory.of(explorer.card.sha256, text)
        asked = TextOnBoard(number, explorer.board_state(), text, known)
        with left:
            _work(explorer, asked)
        _show(explorer, asked, left, right)


def _work(explorer: Explorer, asked: TextOnBoard) -> None:
    """Run what is missing, with progress and a way to cancel."""
    if not asked.missing:
        return
    job = explorer.work.job(OWN_TEXT, asked)
    if job is None:
        job = explorer.work.start(OWN_TEXT, asked)
        job.wait(_PATIENCE_S)
    if not job.ended:
        show_in_row(job, on_screen(job.stage) if job.stage else "Starting", key="cancel-own-text")
    elif job.error:
        problem(job.error)
    elif asked.missing:
        st.caption("Stopped. Results so far are kept.")
        if st.button("Continue", key="own-text-again"):
            explorer.work.start(OWN_TEXT, asked)
            st.rerun()


def _show(explorer: Explorer, asked: TextOnBoard, left: Any, right: Any) -> None:
    mask, heads = explorer.mask, explorer.card.layers * explorer.card.heads
    full = asked.reading(HeadMask.full(mask.layers, mask.heads))
    pruned = asked.reading(mask)
    if full is None:
        return
    models = {f"all {heads} heads": full}
    if pruned is not None and mask.count < heads:
        models[f"{mask.count} as pruned"] = pruned
    for how in asked.recoveries:
        recovered = asked.reading(mask, how)
        if recovered is not None:
            models[f"{mask.count} {RECOVERIES[how].result}"] = recovered
    with left:
        _said(explorer, asked, full)
    with right:
        _probabilities(explorer, models, full)
    curve = asked.known.curves.get(asked.table_name)
    if pruned is None:
        return
    first, second = st.columns(2, gap="medium")
    with first:
        _attention(full, pruned, mask)
    if curve is not None:
        with second:
            _curve(explorer, curve, full)


def _said(explorer: Explorer, asked: TextOnBoard, full: TextReading) -> None:
    if full.cut:
        st.warning(f"The model takes {len(full.tokens):,} tokens; {full.cut:,} more were truncated.")
    if asked.unrecovered:
        st.caption("This mask has no recovered model yet: choose a recovery on the board.")
    st.caption(
        "One text is an example and has no interval. The board below shows the accuracy on "
        f"{len(explorer.bench.evaluation):,} texts."
    )


def _probabilities(explorer: Explorer, models: dict[str, TextReading], full: TextReading) -> None:
    classes = explorer.bench.evaluation.classes
    rows = {name: found.probabilities for name, found in models.items()}
    display.show(
        figures.probabilities_figure(rows, classes, dark=display.is_dark()),
        title=_finding(models, full, classes),
        help="Each mark is the probability of a class for this text: the circle with all heads, the square for the "
        "pruned model on the board, the diamond for the recovered one, if any. Overlapping marks mean that this text "
        "did not need the pruned heads.",
        formula=r"p_c=\frac{e^{z_c}}{\sum_i e^{z_i}}",
        name="own-text-classes",
        data={"class": list(classes), **{name: found.round(5).tolist() for name, found in rows.items()}},
        alt="; ".join(
            f"{name}: {classes[found.answer]}, {percent(float(found.probabilities.max()))}"
            for name, found in models.items()
        ),
    )


def _finding(models: dict[str, TextReading], full: TextReading, classes: tuple[str, ...]) -> str:
    others = {name: found for name, found in models.items() if found is not full}
    answer = f"“{classes[full.answer]}”"
    if not others:
        return f"Prediction with all heads: {answer} ({percent(float(full.probabilities.max()), 0)})"
    changed = [
        f"“{classes[found.answer]}” with {name}" for name, found in others.items() if found.answer != full.answer
    ]
    if changed:
        return f"{answer} with all heads becomes {' and '.join(changed)}"
    shares = ", ".join(
        f"{percent(float(found.probabilities[full.answer]), 0)} with {name}" for name, found in models.items()
    )
    return f"The prediction stays {answer}: {shares}"


def _attention(full: TextReading, kept: TextReading, mask: HeadMask) -> None:
    shown = figures.words_to_show(full, kept)
    words = len(kept.tokens) - int(kept.special.sum())
    if not shown:
        return
    best = max(shown, key=lambda place: float(kept.attention[place]))
    some = "" if len(shown) == words else f" The {len(shown)} of {words} words with most attention are drawn."
    display.show(
        figures.looked_at_figure(full, kept, dark=display.is_dark()),
        title=f"The {mask.count} kept heads attend most to “{kept.tokens[best][:24]}” "
        f"({percent(float(kept.attention[best]))}); {percent(kept.on_special, 0)} goes to special tokens",
        help="The share of attention on each word, averaged over heads and query tokens. Bars: the kept heads in the "
        "pruned model. Circles: all heads in the full model. Special tokens such as [CLS] and [SEP] get the rest; the "
        f"table lists all tokens.{some}",
        formula=r"a_j=\frac{1}{|K|\,S}\sum_{h\in K}\sum_{i=1}^{S}A^{(h)}_{ij}",
        name="own-text-attention",
        data={
            "token": list(kept.tokens),
            "is a word": (~kept.special).tolist(),
            "all heads": full.attention.round(5).tolist(),
            "kept heads": kept.attention.round(5).tolist(),
        },
    )


def _curve(explorer: Explorer, curve: AnswersOverBudgets, full: TextReading) -> None:
    classes, total = explorer.bench.evaluation.classes, explorer.card.layers * explorer.card.heads
    answer, steady = f"“{classes[full.answer]}”", curve.steady_down_to(full.answer)
    if steady == curve.budgets[0]:
        title = f"The prediction is {answer} at every budget"
    elif steady is None:
        title = f"The prediction is {answer} only with all heads"
    else:
        title = f"The prediction stays {answer} down to {steady} of {total} heads, as pruned"
    display.show(
        figures.over_budgets_figure(curve, classes, explorer.mask.count, dark=display.is_dark()),
        title=title,
        help=f"The probability of each class for this text at {len(curve.budgets)} measured budgets, as pruned. The "
        "dashed line is the budget on the board.",
        name="own-text-budgets",
        data={
            "heads kept": list(curve.budgets),
            **{name: curve.probabilities[:, place].round(5).tolist() for place, name in enumerate(classes)},
        },
    )
