"""What a step draws: the sentence with its arcs, the board, bars, and the line over the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from cahp.board import COLOURS, SHARED, STRIPED, HeadClusters, contrast, join_scripts, tints
from cahp.features.learn.choosing import TURN
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.features.learn.scene import HeadFamily, Scene
from cahp.figures import draw, error_bars, ink, points
from cahp.outcomes import OUTCOMES
from cahp.ui.frame import shape_key
from cahp.values import Estimate, HeadMask, Ints
from cahp.words import percent

_CORE = Path(__file__).parent / "core"
#: The steps that show the sentence, and those about the family alone.
_ON_SENTENCE = ("head", "one-head")
_ON_FAMILY = ("one-cluster", "induction")
#: The steps whose bars are what is left of the time, or of the cache.
_SAVING = ("time", "cache")
#: The lower end of the line's axis, unless a known outcome is below.
_LOWEST = 0.6


@dataclass(frozen=True, eq=False)
class Picture:
    """What all steps of a model draw: its shape, colours and letters of heads, the family and the scene."""

    layers: int
    heads: int
    unit: str
    tints: tuple[int, ...]
    names: tuple[str, ...]
    family: HeadFamily
    scene: Scene

    @classmethod
    def of(cls, subject: Subject, clusters: HeadClusters, labels: Ints) -> Picture:
        """Take colours and letters of the clusters in ``labels (N,)``, as the board has them."""
        return cls(
            clusters.layers,
            clusters.heads,
            subject.bench.card.unit,
            tuple(tints(clusters.families).tolist()),
            tuple(clusters.names(labels)),
            subject.family,
            subject.scene,
        )


def draw_stage(
    step: Step, picture: Picture, known: Answer | None, *, answered: bool, mask: HeadMask | None = None
) -> None:
    """Draw a step; the answer that is ``known`` moves once it is ``answered``. ``mask`` stands for that of the step."""
    data = describe_stage(step, picture, known, answered=answered, mask=mask or step.mask)
    # The style sheet keeps the room of a board that lies on its side, or of another.
    with st.container(key=shape_key(picture.layers, picture.heads)):
        _component("cahp_learn_stage", "sentence.js", "stage.js")(key=f"learn-stage-{step.name}", data=data)


def draw_line(steps: Sequence[Step], answers: Sequence[Answer | None], full: Estimate | None, at: int) -> None:
    """Draw the outcome of each step that was answered, and the full model's ``full``, if it is known, as the first."""
    points: list[dict[str, Any]] = []
    lowest = _LOWEST
    for step, answer in zip(steps, answers, strict=True):
        point: dict[str, Any] = {}
        if step.name == "head" and full is not None:
            point = {"value": full.value, "text": percent(full.value)}
        elif answer is not None:
            point = _find_point(step, answer)
            lowest = min(lowest, *(value for value in point.values() if isinstance(value, float)), 1.0)
        points.append(point)
    known = [f"{step.short}: {point['text']}" for step, point in zip(steps, points, strict=True) if point]
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


def describe_stage(
    step: Step, picture: Picture, known: Answer | None, *, answered: bool, mask: HeadMask
) -> dict[str, Any]:
    """Return the data of the stage, whose keys are those that stage.js reads."""
    scene = picture.scene
    coloured = set(range(picture.layers * picture.heads))
    if step.name in _ON_SENTENCE:
        coloured = {scene.head}
    elif step.name in _ON_FAMILY:
        coloured = set(picture.family.heads)
    off = [head for head in range(picture.layers * picture.heads) if not mask.keep.flat[head]]
    # A guess is about what is still to come; a refit and a choice of one's own change no head.
    if not (answered or step.name in ("refit", TURN)):
        off = []
    fills = [COLOURS[tint] if head in coloured else None for head, tint in enumerate(picture.tints)]
    data: dict[str, Any] = {
        "step": step.name,
        "answered": answered,
        "layers": picture.layers,
        "heads": picture.heads,
        "fills": fills,
        "inks": [contrast(COLOURS[tint]) for tint in picture.tints],
        "striped": [tint >= STRIPED for tint in picture.tints],
        "names": list(picture.names),
        "off": off,
        "label": f"{picture.layers} layers of {picture.heads} {picture.unit}s, {len(off)} of them removed",
        "bars": _list_bars(step, known, answered=answered),
    }
    if step.name in _ON_SENTENCE:
        tint = picture.tints[scene.head]
        sentence = {"words": scene.words, "arcs": scene.arcs, "colour": COLOURS[tint], "dashed": tint >= STRIPED}
        data |= sentence | {"drops": step.name == "one-head"}
    return data


def _list_bars(step: Step, known: Answer | None, *, answered: bool) -> list[dict[str, Any]]:
    """Return the bar of the full model, and those of the step once it is ``answered``."""
    if known is None:
        return []
    if step.name in _SAVING:
        bars = [_bar("full", f"{step.name}, all heads", 1.0)]
        if answered:
            bars.append(_bar("now", f"{step.name}, cut model", 1 - known.value / 100, before=1.0))
        return bars
    estimates = list(known.bars.items())
    (name, full), *rest = estimates
    bars = [_bar("full", name, full.value)]
    if not answered:
        return bars
    if step.name == "random":
        middle = known.value / 100
        low, high = known.interval or (known.value, known.value)
        bars.append(_bar("now", "random, median", middle, low=low / 100, high=high / 100, before=full.value))
        bars += [_bar("beside", name, estimate.value, before=full.value) for name, estimate in rest]
    elif step.name == "refit":
        values = dict(rest)
        after = values["after refit"]
        before = values["before refit"]
        bars.append(_bar("now", "before refit", before.value, before=before.value))
        bars.append(_bar("beside", "after refit", after.value, low=after.low, high=after.high, before=before.value))
        for draws, shares in known.draws.items():
            middle = sorted(shares)[len(shares) // 2]
            bars.append(_bar("beside", draws, middle, low=min(shares), high=max(shares), before=before.value))
    else:
        for name, estimate in rest:
            bars.append(_bar("now", name, estimate.value, low=estimate.low, high=estimate.high, before=full.value))
    return bars


def _bar(
    kind: str,
    label: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    before: float | None = None,
) -> dict[str, Any]:
    text = percent(value)
    return {"kind": kind, "label": label, "value": value, "low": low, "high": high, "from": before, "text": text}


def _find_point(step: Step, answer: Answer) -> dict[str, Any]:
    """Return the outcome of a step on the line (empty: it has none)."""
    if step.name == "random":
        low, high = answer.interval or (answer.value, answer.value)
        return {
            "value": answer.value / 100,
            "low": low / 100,
            "high": high / 100,
            "text": f"{percent(answer.value / 100)} (median)",
        }
    if step.name in _SAVING or not answer.bars:
        return {}
    name = list(answer.bars)[1]
    if step.name == "refit":
        name = "after refit"
    estimate = answer.bars[name]
    return {"value": estimate.value, "text": percent(estimate.value)}


def name_outcome(answer: Answer) -> str:
    """Return the name of what bars and line show."""
    return OUTCOMES[answer.outcome].label


# Figures of the Learn page: a guess beside the answer, and the variants of a model ----------------------------------


#: Pixels of a head on the small board, at most.
_CELL = 26.0
#: Pixels of the whole board.
_BOARD = 250.0


def guess_figure(step: Step, answer: Answer, own: int | None, others: Sequence[int] = (), *, dark: bool) -> Any:
    """Draw the measured answer (line, 95 % interval), the own guess (diamond) and how often others made each guess.

    The axis is the range of the guess, and longer only where the answer lies outside.
    """
    colours = ink(dark=dark)
    unit = step.unit
    own_guess = []
    if own is not None:
        own_guess.append(own)
    ends = [0, step.highest, answer.value, *(answer.interval or ())]
    width = max(1, round(max(ends) / 30))
    counts = Counter(value // width * width for value in others)
    guessed = [f"{low} to {low + width - 1}" for low in counts]
    if width == 1:
        guessed = [f"{low}" for low in counts]
    bars = {
        "type": "bar",
        "x": [low + (width - 1) / 2 for low in counts],
        "y": list(counts.values()),
        "width": 0.9 * width,
        "marker": {"color": colours.text, "opacity": 0.45},
        "customdata": guessed,
        "hovertemplate": f"%{{y}} guessed %{{customdata}} {unit}<extra></extra>",
    }
    hover = [f"your guess: {guess} {unit}" for guess in own_guess]
    diamond = points(own_guess, [0], "diamond-open", colours.text, size=13, outline=2, hover=hover, cliponaxis=False)
    margin = 0.04 * (max(ends) - min(ends)) + width / 2
    y: dict[str, Any] = {"visible": False, "range": [-1, 1], "fixedrange": True}
    height = 115
    if counts:
        y = {"title": "guesses", "rangemode": "tozero", "dtick": max(1, max(counts.values()) // 4)}
        height = 230
    figure = draw(
        [bars, diamond],
        x={"title": unit, "range": [min(ends) - margin, max(ends) + margin], "zeroline": False},
        y=y,
        height=height,
        left=10,
        top=30,
        bottom=45,
    )
    if answer.interval is not None:
        figure.add_vrect(*answer.interval, fillcolor=colours.accent, opacity=0.2, line_width=0)
    # The word stays inside of the chart.
    side = "right" if answer.value > (min(ends) + max(ends)) / 2 else "left"
    note = {"text": "measured", "yanchor": "bottom", "xanchor": side}
    return figure.add_vline(answer.value, line={"color": colours.accent, "width": 3}, annotation=note)


def variants_figure(answer: Answer, *, dark: bool) -> Any:
    """Draw the share ``answer.outcome`` of each variant (dots with 95 % intervals), and random selections (hollow)."""
    colours = ink(dark=dark)
    label = OUTCOMES[answer.outcome].label
    centre = [100 * share.value for share in answer.bars.values()]
    ends = [(100 * share.low, 100 * share.high) for share in answer.bars.values()]
    traces = [
        points(
            centre,
            list(answer.bars),
            "circle",
            colours.accent,
            hover=[f"{name}<br>{label} {share.text}" for name, share in answer.bars.items()],
            error_x=error_bars(centre, ends, colours.accent, thickness=2),
        )
    ]
    for name, drawn in answer.draws.items():
        shares = [100 * share for share in drawn]
        hover = [f"random selection<br>{label} {share:.1f} %" for share in shares]
        rows = [name] * len(shares)
        traces.append(points(shares, rows, "circle-open", colours.text, outline=1.5, opacity=0.7, hover=hover))
    height = 90 + 34 * (len(answer.bars) + len(answer.draws))
    return draw(traces, x=f"{answer.outcome} in %", y={"autorange": "reversed"}, height=height, left=10, bottom=50)
