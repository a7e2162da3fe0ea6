"""The tab of a person's own text: predictions with all heads and with those on the board."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st

from cahp.board import CLUSTER_COLOURS
from cahp.features.own_text.measuring import TextReading, likeliest
from cahp.features.own_text.on_board import (
    OWN_TEXT,
    State,
    draw_recovered_work,
    put_on_board,
    start_reading,
    use_stored,
)
from cahp.features.own_text.overview import draw_continuations
from cahp.figures import LEGEND, draw, ink, label, named_rows, points
from cahp.show import Figure, Line
from cahp.ui.frame import Panel, job_card
from cahp.ui.parts import draw_blocks, has_words
from cahp.ui.session import Explorer
from cahp.words import percent

#: Symbols of models, which tell them apart without colour.
_SIGNS = ("circle-open", "square", "diamond")


def draw_tab(explorer: Explorer) -> None:
    """Draw the tab below the board."""
    left, right = st.columns([2, 3], gap="medium")
    with left:
        text = put_on_board(explorer, line=False)
    if not has_words(text.known.text):
        right.info("Type a text, or insert an example.")
        return
    use_stored(text)
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
    recovered = next((state for state in text.kept if text.read(state) is not None), None)
    for state in dict.fromkeys(("pruned", recovered)):
        if state is None or mask.is_full:
            continue
        reading = text.read(state)
        if reading is not None:
            states.append(state)
            readings[f"{mask.count} {text.describe(state)}"] = reading
    with left:
        if full.cut:
            st.warning(f"The text is longer than the model reads: {full.cut:,} tokens at its end were truncated.")
        st.caption(
            "One text is an example and has no interval. The board shows outcomes on "
            f"{explorer.bench.evaluation.measured}."
        )
    # The words of the most probable tokens, or all classes.
    names: dict[int, str] = {}
    for reading in readings.values():
        names |= reading.words or {}
    names = names or dict(enumerate(explorer.bench.class_names))
    with right:
        if text.continues:
            draw_continuations(explorer, text, states)
        draw_blocks([_show_probabilities(explorer, readings, names)])
        curve = text.find_curve("pruned")
        if curve is not None:
            steady = curve.steady_down_to(full.answer)
            line = f"The prediction changes as soon as a {unit} is removed"
            if steady is not None:
                line = f"The prediction stays “{names[full.answer]}” down to {steady} of {mask.keep.size} {unit}s"
            draw_blocks([Line(f"{line}, as pruned")])


def _show_probabilities(explorer: Explorer, readings: Mapping[str, TextReading], names: Mapping[int, str]) -> Figure:
    """Show the probabilities of the answers of each model."""
    of = explorer.card.words.answer
    predictions = []
    for model, reading in readings.items():
        share = percent(float(reading.probabilities.max()), 0)
        predictions.append(f"“{names[reading.answer]}” ({share}) with {model}")
    shown = likeliest([reading.probabilities for reading in readings.values()])
    columns = {model: reading.probabilities[shown].round(5).tolist() for model, reading in readings.items()}
    words = [names[place] for place in shown]
    return Figure(
        f"Predicted {of}: {', '.join(predictions)}",
        lambda dark: probabilities_figure(columns, words, of=of, dark=dark),
        f"Each mark is the probability of a {of} for this text: the circle with all heads, the square for the pruned "
        "model on the board, the diamond for the recovered one, if any. If the marks overlap, pruning does not change "
        "this prediction. At most eight are drawn; ␣ is a space, ⏎ a line break.",
        {of: words, **columns},
        "own-text-probabilities",
        r"p_c=\frac{e^{z_c}}{\sum_i e^{z_i}}",
    )


def probabilities_figure(models: Mapping[str, list[float]], words: list[str], *, of: str, dark: bool) -> Any:
    """Draw the probabilities of classes, or ``of`` other ``words``, of a text from several models, all heads first."""
    colours = (ink(dark=dark).text, CLUSTER_COLOURS[0], CLUSTER_COLOURS[1])
    rows = list(range(len(words)))
    traces = []
    for (model, values), symbol, colour in zip(models.items(), _SIGNS, colours, strict=False):
        shares = (100 * np.array(values)).tolist()
        traces.append(points(shares, rows, symbol, colour, size=12, outline=2, name=model))
    return draw(
        traces,
        x={"title": f"probability of the {of} (%)", "range": [-3, 103], "zeroline": False},
        y=named_rows(list(map(label, words))),
        height=100 + 26 * len(words),
        left=10,
        legend=LEGEND,
    )


TAB = Panel("My text", draw_tab, place=10, name="text")
