"""What a step draws: the sentence with its arcs, the board, bars, and the line over the steps; and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from cahp.board import COLOURS, SHARED, STRIPED, HeadClusters, contrast, join_scripts, tints
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.features.learn.scene import Scene
from cahp.figures import draw, ink, points
from cahp.outcomes import OUTCOMES
from cahp.show import Table
from cahp.ui.frame import shape_key
from cahp.ui.parts import bind_units, draw_blocks, is_dark, plain, show_chart
from cahp.values import Estimate, HeadMask, Ints
from cahp.words import percent, span

_CORE = Path(__file__).parent / "core"
#: The lower end of the line's axis, unless a known outcome is below.
_LOWEST = 0.6
#: Numbers of guesses in words; a model that cannot be refitted has one less.
_COUNTED = {5: "five", 6: "six"}


@dataclass(frozen=True, eq=False)
class Picture:
    """What all steps of a model draw: its shape, colours and letters of heads, and the scene."""

    layers: int
    heads: int
    unit: str
    tints: tuple[int, ...]
    names: tuple[str, ...]
    scene: Scene

    @classmethod
    def of(cls, subject: Subject, clusters: HeadClusters, labels: Ints) -> Picture:
        """Take colours and letters of the clusters in ``labels (N,)``, as the board has them."""
        hues = tuple(tints(clusters.families).tolist())
        names = tuple(clusters.names(labels))
        return cls(clusters.layers, clusters.heads, subject.unit, hues, names, subject.scene)


# The step --------------------------------------------------------------------------------------------------------


def draw_title(steps: Sequence[Step], at: int) -> None:
    """Draw what is done in step ``at``, and what its new terms mean."""
    step = steps[at]
    guesses = sum(bool(step.question) for step in steps)
    st.caption(f"Learn in {_COUNTED.get(guesses, guesses)} guesses · step {at + 1} of {len(steps)}")
    st.title(step.title)
    st.markdown(step.doing, help=step.terms or None)


def draw_stage(
    step: Step, picture: Picture, known: Answer | None, *, answered: bool, mask: HeadMask | None = None
) -> None:
    """Draw a step; the answer that is ``known`` moves once it is ``answered``. ``mask`` stands for that of the step."""
    data = describe_stage(step, picture, known, answered=answered, mask=mask or step.mask)
    # The style sheet keeps the room of a board that lies on its side, or of another.
    with st.container(key=shape_key(picture.layers, picture.heads)):
        _component("cahp_learn_stage", "sentence.js", "stage.js")(key=f"learn-stage-{step.name}", data=data)


def describe_stage(
    step: Step, picture: Picture, known: Answer | None, *, answered: bool, mask: HeadMask
) -> dict[str, Any]:
    """Return the data of the stage, whose keys are those that stage.js reads."""
    off: list[int] = []
    if answered or step.early:
        off = np.flatnonzero(~mask.keep.ravel()).tolist()
    hues = [COLOURS[tint] for tint in picture.tints]
    coloured = step.coloured or range(len(hues))
    data: dict[str, Any] = {
        "step": step.name,
        "answered": answered,
        "layers": picture.layers,
        "heads": picture.heads,
        "fills": [hue if head in coloured else None for head, hue in enumerate(hues)],
        "inks": list(map(contrast, hues)),
        "striped": [tint >= STRIPED for tint in picture.tints],
        "names": list(picture.names),
        "off": off,
        "label": f"{picture.layers} layers of {picture.heads} {picture.unit}s, {len(off)} of them removed",
        "bars": _list_bars(known, answered=answered),
    }
    if step.on_sentence:
        scene = picture.scene
        tint = picture.tints[scene.head]
        data |= {"words": scene.words, "arcs": scene.arcs, "colour": COLOURS[tint], "dashed": tint >= STRIPED}
        data["drops"] = bool(step.question)
    return data


def _list_bars(known: Answer | None, *, answered: bool) -> list[dict[str, Any]]:
    """Return the bar of the full model, and those of the step once it is ``answered``."""
    bars: list[dict[str, Any]] = []
    if known is None:
        return bars
    (_, full), *_ = known.bars.items()
    # A refit climbs back from where the pruned model is.
    start = known.bars.get("before refit", full).value
    for kind, (name, estimate) in zip(("full", "now", "beside", "beside"), known.bars.items(), strict=False):
        bar = {"kind": kind, "label": name, "value": estimate.value, "text": percent(estimate.value), "from": start}
        if estimate.ci95 is not None and kind != "full":
            bar |= {"low": estimate.low, "high": estimate.high}
        bars.append(bar)
        if not answered:
            break
    return bars


def draw_line(steps: Sequence[Step], answers: Sequence[Answer | None], full: Estimate | None, at: int) -> None:
    """Draw the outcome of each step that was answered, and the full model's ``full``, if it is known, as the first."""
    points: list[dict[str, Any]] = []
    known = []
    for step, answer in zip(steps, answers, strict=True):
        estimate = None
        if step.name == "head":
            estimate = full
        elif answer is not None and answer.outcome in OUTCOMES:
            estimate = list(answer.bars.values())[1]
        if estimate is None:
            points.append({})
            continue
        points.append({"value": estimate.value, "text": percent(estimate.value)})
        if step.name == "random":
            points[-1] |= {"low": estimate.low, "high": estimate.high, "text": f"{estimate.text} (median)"}
        known.append(f"{step.short}: {points[-1]['text']}")
    lowest = min(_LOWEST, *(point.get("low", point.get("value", 1.0)) for point in points))
    data = {"points": points, "at": at, "lowest": lowest, "label": "; ".join(known)}
    _component("cahp_learn_line", "line.js")(key="learn-line", data=data)


@cache
def _sources(*files: str) -> tuple[str, str]:
    """Return the scripts as one module, and the style sheet."""
    script = join_scripts([*SHARED, *(_CORE / file for file in files)])
    return script, (_CORE / "learn.css").read_text(encoding="utf-8")


def _component(name: str, *files: str) -> Any:
    js, css = _sources(*files)
    return st.components.v2.component(name, js=js, css=css)


# The guess and its answer ----------------------------------------------------------------------------------------


def draw_guess(step: Step, start: int, **options: Any) -> int:
    """Draw the slider for a guess."""
    guess: int = st.slider(
        step.question, 0, step.highest, start, format=f"%d {step.unit}", help=step.definition, **options
    )
    return guess


def draw_sentence(sentence: str) -> Any:
    """Draw the sentence that a step ends with; return the row, for buttons beside it."""
    row = st.container(horizontal=True, vertical_alignment="center", key="learn-sentence")
    row.markdown(f"**{bind_units(plain(sentence))}**")
    return row


def write_measured(step: Step, answer: Answer) -> str:
    """Return the measured value, or that no change was measurable if the interval contains 0."""
    if answer.interval is not None and answer.interval[0] < 0 < answer.interval[1]:
        return "no measurable change"
    return f"{round(answer.value, 1):g} {step.unit}"


def describe_distance(step: Step, guess: int, answer: Answer) -> str:
    """Return how far the guess was from the measured value."""
    if guess == answer.value:
        return "exactly right"
    if answer.interval is not None and answer.interval[0] <= guess <= answer.interval[1]:
        return "within the interval"
    # Percentages differ by percentage points.
    unit = step.unit.replace("per cent", "points")
    side = "low"
    if guess > answer.value:
        side = "high"
    return f"{round(abs(guess - answer.value), 1):g} {unit} too {side}"


def draw_answer(step: Step, answer: Answer, guess: int | None, guesses: Sequence[int] = ()) -> None:
    """Draw the figures of an answer, with the own ``guess`` and the sorted ``guesses`` of a class."""
    sample = "counted"
    if answer.sample:
        sample = f"n = {answer.sample}"
    measured = f"{write_measured(step, answer)} ({sample})"
    if answer.interval is not None:
        measured += f", {answer.spread} {span(*answer.interval)}"
    st.markdown(f"**{step.question}** Measured: {plain(measured)}.")
    titles = []
    rows = [("measured", answer.value), *(("a guess of the class", value) for value in guesses)]
    if guess is not None:
        titles.append(f"Your guess: {guess} {step.unit}, {describe_distance(step, guess, answer)}")
        rows.append(("your guess", guess))
    if guesses:
        titles.append(f"Median of {len(guesses)} guesses: {np.median(guesses):g} {step.unit}")
    show_chart(
        guess_figure(step, answer, guess, guesses, dark=is_dark()),
        title=". ".join(titles) or "There are no guesses",
        help=f"Line: the measured answer; band: its {answer.spread}. Hollow diamond: your guess. Bars: how many people "
        "of a class gave this guess.",
        name=f"learn-distance-{step.name}",
        data={"what": [name for name, _ in rows], step.unit: [value for _, value in rows]},
    )
    st.markdown(plain(answer.meaning))
    draw_blocks([Table("", ("variant", answer.outcome), list(answer.bars.items()), name=f"learn-{step.name}")])


def guess_figure(step: Step, answer: Answer, own: int | None, others: Sequence[int] = (), *, dark: bool) -> Any:
    """Draw the measured answer (line, interval), the own guess (diamond) and how often others made each guess.

    The axis is the range of the guess, and longer only where the answer lies outside.
    """
    colours = ink(dark=dark)
    low, high = answer.interval or (answer.value, answer.value)
    end = max(step.highest, high)
    guesses = {
        "type": "histogram",
        "x": list(others),
        "xbins": {"start": -0.5, "size": max(1, round(end / 30))},
        "marker": {"color": colours.text, "opacity": 0.45},
    }
    traces: list[Any] = [guesses]
    if own is not None:
        traces.append(points([own], [0], "diamond-open", colours.text, size=13, outline=2, cliponaxis=False))
    y: dict[str, Any] = {"title": "guesses", "rangemode": "tozero"}
    height = 230
    if not others:
        y = {"visible": False, "range": [-1, 1]}
        height = 115
    x = {"title": step.unit, "range": [min(0, low) - 0.05 * end, 1.05 * end], "zeroline": False}
    figure = draw(traces, x=x, y=y, height=height, left=10, top=30, bottom=45)
    figure.add_vrect(low, high, fillcolor=colours.accent, opacity=0.2, line_width=0)
    # The word stays inside of the chart.
    side = "left"
    if answer.value > end / 2:
        side = "right"
    note = {"text": "measured", "yanchor": "bottom", "xanchor": side}
    return figure.add_vline(answer.value, line={"color": colours.accent, "width": 3}, annotation=note)
