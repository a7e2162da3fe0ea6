"""What a step draws: the sentence with its arcs, the board, bars, and the line over the steps; and its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cahp.board import COLOURS, STRIPED, contrast, read_component
from cahp.features.learn.steps import TURN, Answer, Step, Subject
from cahp.outcomes import OUTCOMES
from cahp.show import Table
from cahp.ui.frame import shape_key
from cahp.ui.parts import bind_units, draw_blocks, plain
from cahp.values import Estimate, HeadMask, JsonObject
from cahp.words import percent, span

_CORE = Path(__file__).parent / "core"
#: The lower end of the line's axis, unless a known outcome is below.
_LOWEST = 0.6


def draw_title(subject: Subject, at: int) -> None:
    """Draw what is done in step ``at``, and what its new terms mean."""
    step = subject.steps[at]
    does = "continues a text"
    if subject.texts.task.predicts_labels:
        does = f"sorts texts into {', '.join(subject.bench.class_names[:3])}, …"
    count = len(subject.steps)
    st.caption(plain(f"Learn in {count - 1} guesses · step {at + 1} of {count} · this model {does}"))
    st.title(step.title)
    st.markdown(step.doing, help=step.terms or None)


def draw_stage(subject: Subject, step: Step, known: Answer | None, *, answered: bool, mask: HeadMask) -> None:
    """Draw a step with the heads of ``mask``; the answer that is ``known`` moves once it is ``answered``."""
    data = describe_stage(subject, step, known, answered=answered, mask=mask)
    # The style sheet keeps the room of a board that lies on its side, or of another.
    with st.container(key=shape_key(mask)):
        _component("cahp_learn_stage", "sentence.js", "stage.js")(key=f"learn-stage-{step.name}", data=data)


def describe_stage(subject: Subject, step: Step, known: Answer | None, *, answered: bool, mask: HeadMask) -> JsonObject:
    """Return the data of the stage, whose keys are those that stage.js reads."""
    off = []
    # A refit climbs back from the heads that it has, and the last step is about a budget.
    if answered or step.name in ("refit", TURN):
        off = np.flatnonzero(~mask.keep.ravel()).tolist()
    bars = []
    if known is not None:
        names = list(known.bars)
        start = known.bars.get("before refit", known.bars[names[0]]).value
        if not answered:
            names = names[:1]
        for kind, name in zip(("full", "now", "beside", "beside"), names, strict=False):
            value = known.bars[name]
            bar = {"kind": kind, "label": name, "value": value.value, "text": percent(value.value), "from": start}
            if value.ci95 is not None and kind != "full":
                bar |= {"low": value.low, "high": value.high}
            bars.append(bar)
    hues = [COLOURS[tint] for tint in subject.tints]
    data = {
        "step": step.name,
        "answered": answered,
        "layers": mask.layers,
        "heads": mask.heads,
        "fills": [hue if head in step.coloured else None for head, hue in enumerate(hues)],
        "inks": list(map(contrast, hues)),
        "striped": [tint >= STRIPED for tint in subject.tints],
        "names": list(subject.names),
        "off": off,
        "label": f"{mask.layers} layers of {mask.heads} {subject.bench.card.unit}s, {len(off)} of them removed",
        "bars": bars,
    }
    scene = subject.scene
    if step.coloured == (scene.head,):
        tint = subject.tints[scene.head]
        data |= {"words": scene.words, "arcs": scene.arcs, "colour": COLOURS[tint], "dashed": tint >= STRIPED}
        data["drops"] = bool(step.question)
    return data


def draw_axis(step: Step, answer: Answer, guess: int | None, guesses: Sequence[int]) -> None:
    """Draw the measured answer with its interval, the own ``guess``, and a histogram of the ``guesses`` of a class.

    The axis is the range of the guess, and longer only where the answer lies outside.
    """
    low, high = answer.interval or (answer.value, answer.value)
    value = round(answer.value, 1)
    said = f"Measured: {step.amount(value)}"
    middle = ""
    if guesses:
        middle = f"Median of {len(guesses)} guesses: {step.amount(float(np.median(guesses)))}"
        said += f". {middle}"
    if guess is not None:
        said += f". Your guess: {step.amount(guess)}, {describe_distance(step, guess, answer)}"
    data = {
        "begin": min(0, low),
        "end": max(step.highest, high),
        "unit": step.unit,
        "value": value,
        "low": low,
        "high": high,
        "guess": guess,
        "guesses": list(guesses),
        "middle": middle,
        "label": said,
    }
    _component("cahp_learn_axis", "axis.js")(key=f"learn-axis-{step.name}", data=data)


def draw_line(steps: Sequence[Step], answers: Sequence[Answer | None], full: Estimate | None, at: int) -> None:
    """Draw the outcome of each step that was answered, and the full model's ``full``, if it is known, as the first."""
    dots: list[JsonObject] = []
    for step, answer in zip(steps, answers, strict=True):
        estimate = None
        if step.name == "head":
            estimate = full
        elif answer is not None and answer.outcome in OUTCOMES:
            estimate = list(answer.bars.values())[1]
        dot: JsonObject = {}
        if estimate is not None:
            dot = {"value": estimate.value, "text": percent(estimate.value)}
            if step.name == "random":
                dot |= {"low": estimate.low, "high": estimate.high, "text": f"{estimate.text} (median)"}
        dots.append(dot)
    label = "; ".join(f"{step.short}: {dot['text']}" for step, dot in zip(steps, dots, strict=True) if dot)
    lows: list[Any] = [dot.get("low", dot.get("value", 1.0)) for dot in dots]
    lowest = min(_LOWEST, *lows)
    data = {"points": dots, "at": at, "lowest": lowest, "label": label}
    _component("cahp_learn_line", "line.js")(key="learn-line", data=data)


def _component(name: str, *files: str) -> Any:
    js, css = read_component(_CORE / "learn.css", *(_CORE / file for file in files))
    return st.components.v2.component(name, js=js, css=css)


# The guess and its answer ----------------------------------------------------------------------------------------


def draw_guess(step: Step, start: int, **options: Any) -> int:
    """Draw the slider for a guess."""
    guess: int = st.slider(
        step.question, 0, step.highest, start, format=f"%d {step.unit.replace('%', '%%')}", **options
    )
    return guess


def draw_sentence(sentence: str) -> Any:
    """Draw the sentence that a step ends with; return the row, for buttons beside it."""
    row = st.container(horizontal=True, vertical_alignment="center", key="learn-sentence")
    row.markdown(f"**{bind_units(plain(sentence))}**")
    return row


def describe_distance(step: Step, guess: int, answer: Answer) -> str:
    """Return how far the guess was from the measured value."""
    low, high = answer.value - 0.5, answer.value + 0.5
    # The range of random selections is no uncertainty of their median.
    if answer.interval is not None and answer.spread == Answer.spread:
        low, high = answer.interval
    if low <= guess <= high:
        return "right"
    # Percentages differ by percentage points.
    unit = step.unit.replace("%", "points")
    side = "low"
    if guess > answer.value:
        side = "high"
    return f"{round(abs(guess - answer.value), 1):g} {unit} too {side}"


def tell_guess(step: Step, answer: Answer, guess: int | None) -> str:
    """Return the headline of an answer, after a sentence about the own ``guess`` (None: there is none)."""
    if guess is None:
        return answer.headline
    told = f"You guessed {step.amount(guess)}: {describe_distance(step, guess, answer)}."
    if guess in answer.reached:
        told = f"You guessed {step.amount(guess)}: that gives {answer.reached[guess]}."
    return f"{told} {answer.headline}"


def draw_answer(step: Step, answer: Answer) -> None:
    """Draw the figures of an answer."""
    measured = step.amount(round(answer.value, 1))
    if answer.interval is not None:
        measured += f", {answer.spread} {span(*answer.interval)}"
    if answer.sample:
        measured += f", n = {answer.sample}"
    st.markdown(f"**{step.question}** Measured: {plain(measured)}.")
    st.markdown(plain(answer.meaning))
    draw_blocks([Table("", ("variant", answer.outcome), list(answer.bars.items()), name=f"learn-{step.name}")])
