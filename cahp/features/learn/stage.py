"""What a step draws: the sentence with its arcs, the board, bars, and the line over the steps; and its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cahp.board import COLOURS, STRIPED, contrast, read_component
from cahp.features.learn.steps import LANGUAGES, TURN, Answer, Step, Subject, read_texts
from cahp.outcomes import OUTCOMES
from cahp.show import Table
from cahp.ui.frame import shape_key
from cahp.ui.parts import bind_units, draw_blocks, plain
from cahp.values import Estimate, HeadMask, JsonObject
from cahp.words import span

_CORE = Path(__file__).parent / "core"
#: The switch between languages.
LANGUAGE = "learn-language"


def draw_title(subject: Subject, at: int) -> None:
    """Draw what is done in step ``at``, and what its new terms mean."""
    step = subject.steps[at]
    steps = len(subject.steps)
    with st.container(horizontal=True, vertical_alignment="center", key="first-line"):
        st.caption(plain(subject.say("course", count=steps - 1, at=at + 1, steps=steps)))
        st.segmented_control(
            "Language",
            LANGUAGES,
            default=subject.language,
            format_func=LANGUAGES.get,
            required=True,
            key=LANGUAGE,
            label_visibility="collapsed",
        )
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
        bars = subject.name_bars(step.name, known)
        if not answered:
            bars = bars[:1]
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
        "texts": read_texts(subject.language)["drawn"],
        "bars": [{"label": name, "value": bar.value, "text": bar.text, "ends": bar.ci95} for name, bar in bars],
    }
    scene = subject.scene
    if step.coloured == (scene.head,):
        tint = subject.tints[scene.head]
        data |= {"words": scene.words, "arcs": scene.arcs, "colour": COLOURS[tint], "dashed": tint >= STRIPED}
        data["drops"] = bool(step.question)
    return data


def draw_axis(subject: Subject, step: Step, answer: Answer, guess: int | None, guesses: Sequence[int]) -> None:
    """Draw the measured answer with its interval, the own ``guess``, and a histogram of the ``guesses`` of a class.

    The axis is the range of the guess, and longer only where the answer lies outside.
    """
    low, high = answer.interval or (answer.value, answer.value)
    data = {
        "begin": min(0, low),
        "end": max(step.highest, high),
        "value": round(answer.value, 1),
        "low": low,
        "high": high,
        "guess": guess,
        "guesses": list(guesses),
        "unit": step.unit,
        "units": step.units,
        "texts": read_texts(subject.language)["drawn"],
    }
    _component("cahp_learn_axis", "axis.js")(key=f"learn-axis-{step.name}", data=data)


def draw_line(subject: Subject, answers: Sequence[Answer | None], full: Estimate | None, at: int) -> None:
    """Draw the outcome of each step that was answered, and the full model's ``full``, if it is known, as the first."""
    points = []
    for step, answer in zip(subject.steps, answers, strict=True):
        point: JsonObject = {"step": step.name, "short": step.short}
        estimate = None
        if step.name == "head":
            estimate = full
        elif answer is not None and answer.outcome in OUTCOMES:
            estimate = answer.bars[1]
        if estimate is not None:
            point |= {"value": estimate.value, "text": estimate.text, "ends": estimate.ci95}
        points.append(point)
    data = {"points": points, "at": at, "median": read_texts(subject.language)["drawn"]["median"]}
    _component("cahp_learn_line", "line.js")(key="learn-line", data=data)


def _component(name: str, *files: str) -> Any:
    js, css = read_component(_CORE / "learn.css", *(_CORE / file for file in ("texts.js", *files)))
    return st.components.v2.component(name, js=js, css=css)


# The guess and its answer ----------------------------------------------------------------------------------------


def draw_guess(step: Step, start: int, **options: Any) -> int:
    """Draw the slider for a guess."""
    guess: int = st.slider(
        step.question, 0, step.highest, start, format=f"%d {step.units.replace('%', '%%')}", **options
    )
    return guess


def tell_looks(subject: Subject) -> str:
    """Say in one sentence at which words the head looks: its two strongest arcs."""
    scene = subject.scene
    if not scene.arcs:
        return subject.say("looks-nowhere")
    strongest = sorted(scene.arcs, key=lambda arc: -arc.weight)[:2]
    looks = [subject.say("looks", query=scene.words[arc.query], key=scene.words[arc.key]) for arc in sorted(strongest)]
    return f"{', '.join(looks)}."


def draw_sentence(sentence: str) -> Any:
    """Draw the sentence that a step ends with; return the row, for buttons beside it."""
    row = st.container(horizontal=True, vertical_alignment="center", key="learn-sentence")
    row.markdown(f"**{bind_units(plain(sentence))}**")
    return row


def tell_guess(subject: Subject, step: Step, answer: Answer, guess: int | None) -> str:
    """Return the headline of an answer, after a sentence about the own ``guess`` (None: there is none)."""
    headline = subject.tell(step.name, answer.headline, answer)
    if guess is None:
        return headline
    low, high = answer.value - 0.5, answer.value + 0.5
    # The range of random selections is no uncertainty of their median.
    if answer.interval is not None and step.name != "random":
        low, high = answer.interval
    told = "right"
    if guess < low:
        told = "low"
    elif guess > high:
        told = "high"
    # Percentages differ by percentage points.
    distance = step.amount(round(abs(guess - answer.value), 1)).replace("%", subject.say("points"))
    reached = answer.reached.get(guess)
    if reached is not None:
        told = "gives"
    return f"{subject.say(told, amount=step.amount(guess), distance=distance, reached=reached)} {headline}"


def draw_answer(subject: Subject, step: Step, answer: Answer) -> None:
    """Draw the figures of an answer."""
    texts = read_texts(subject.language)
    measured = subject.say("said", amount=step.amount(round(answer.value, 1)))
    if answer.interval is not None:
        measured += f", {subject.say('spread', step.name)} {span(*answer.interval)}"
    if answer.n:
        measured += f", n = {answer.n} {texts['counted'][answer.units]}"
    st.markdown(f"**{step.question}** {plain(measured)}.")
    st.markdown(plain(subject.tell(step.name, answer.meaning, answer)))
    columns = (subject.say("variant"), texts["outcome"][answer.outcome])
    draw_blocks([Table("", columns, subject.name_bars(step.name, answer), name=f"learn-{step.name}")])
