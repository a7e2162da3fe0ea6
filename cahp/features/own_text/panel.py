"""The tab of a person's own text: predictions with all heads and with those on the board."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import streamlit as st

from cahp.features.own_text.figure import over_budgets_figure, probabilities_figure
from cahp.features.own_text.measuring import AnswersOverBudgets, TextReading, likeliest
from cahp.features.own_text.on_board import OWN_TEXT, State, draw_recovered_work, put_on_board, start_reading
from cahp.features.own_text.overview import draw_continuations
from cahp.show import Figure, Line
from cahp.ui.frame import Panel, job_card
from cahp.ui.parts import draw_blocks, has_words
from cahp.ui.session import Explorer
from cahp.words import percent

#: Words that are named.
_WORDS = 3


def draw(explorer: Explorer) -> None:
    """Draw the tab below the board."""
    left, right = st.columns([2, 3], gap="medium")
    with left:
        text = put_on_board(explorer, line=False)
    if not has_words(text.known.text):
        right.info("Type a text, or insert an example.")
        return
    with left:
        start_reading(explorer, text)
        if text.missing:
            job_card(explorer, OWN_TEXT, text, name="own-text")
        draw_recovered_work(explorer, text)
    mask = explorer.mask
    full = text.read("full")
    if full is None:
        return
    unit = explorer.card.unit
    readings = {f"all {mask.keep.size} {unit}s": full}
    states: list[State] = ["full"]
    others: tuple[State, ...] = ("pruned", "recovered")
    for state in others:
        reading = text.read(state)
        if reading is not None and not mask.is_full:
            states.append(state)
            readings[f"{mask.count} {text.describe(state)}"] = reading
    with left:
        if full.cut:
            st.warning(f"The model takes {len(full.tokens):,} tokens; {full.cut:,} more were truncated.")
        st.caption(
            "One text is an example and has no interval. The board shows outcomes on "
            f"{explorer.bench.evaluation.measured}."
        )
    # The words of the most probable tokens, or all classes.
    names: dict[int, str] = {}
    curve = text.known.curves.get(text.table_name)
    for source in (*readings.values(), curve):
        if source is not None:
            names |= source.words or {}
    names = names or dict(enumerate(explorer.bench.class_names))
    with right:
        if text.continues:
            draw_continuations(explorer, text, states)
        draw_blocks([_show_probabilities(explorer, readings, names)])
    pruned = text.read("pruned")
    if pruned is not None and not pruned.special.all():
        draw_blocks([Line(_describe_attention(pruned, unit))])
    if curve is not None:
        draw_blocks([_show_curve(explorer, curve, full, names)])


def _show_probabilities(explorer: Explorer, readings: Mapping[str, TextReading], names: Mapping[int, str]) -> Figure:
    """Show the probabilities of the answers of each model."""
    of = explorer.card.words.answer
    predictions = [
        f"“{names[reading.answer]}” ({percent(float(reading.probabilities.max()), 0)}) with {model}"
        for model, reading in readings.items()
    ]
    shown = likeliest([reading.probabilities for reading in readings.values()])
    columns = {model: reading.probabilities[shown].round(5).tolist() for model, reading in readings.items()}
    return Figure(
        f"Predicted {of}: {', '.join(predictions)}",
        lambda dark: probabilities_figure(readings, names, of=of, dark=dark),
        f"Each mark is the probability of a {of} for this text: the circle with all heads, the square for the pruned "
        "model on the board, the diamond for the recovered one, if any. If the marks overlap, pruning does not change "
        "this prediction. At most eight are drawn; ␣ is a space, ⏎ a line break.",
        {of: [names[place] for place in shown], **columns},
        "own-text-probabilities",
        r"p_c=\frac{e^{z_c}}{\sum_i e^{z_i}}",
    )


def _describe_attention(kept: TextReading, unit: str) -> str:
    """Say which words the kept heads attend to most."""
    words = np.where(kept.special, -1.0, kept.attention)
    most = [place for place in np.argsort(-words, kind="stable")[:_WORDS].tolist() if words[place] >= 0]
    named = ", ".join(f"“{kept.tokens[place][:24]}” ({percent(float(words[place]))})" for place in most)
    special = percent(float(kept.attention[kept.special].sum()), 0)
    return (
        f"The kept {unit}s attend most to {named}, averaged over {unit}s and query tokens; {special} goes to special "
        "tokens"
    )


def _show_curve(explorer: Explorer, curve: AnswersOverBudgets, full: TextReading, names: Mapping[int, str]) -> Figure:
    """Show the answers over all budgets, and down to which of them the full model's answer stays."""
    unit = explorer.card.unit
    steady = curve.steady_down_to(full.answer)
    title = f"The prediction changes as soon as a {unit} is removed"
    if steady is not None:
        title = (
            f"The prediction stays “{names[full.answer]}” down to {steady} of {explorer.mask.keep.size} {unit}s, as "
            "pruned"
        )
    columns = {
        names[place]: column.round(5).tolist()
        for place, column in zip(curve.words or names, np.transpose(curve.probabilities), strict=True)
    }
    return Figure(
        title,
        lambda dark: over_budgets_figure(curve, names, explorer.mask.count, unit=unit, dark=dark),
        f"The probability of each {explorer.card.words.answer} for this text at {len(curve.budgets)} measured budgets, "
        "as pruned. The dashed line marks the board's budget.",
        {f"{unit}s": curve.budgets, **columns},
        "own-text-budgets",
    )


TAB = Panel("Your own text", draw, place=10, name="text")
