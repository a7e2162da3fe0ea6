"""What a step draws: the sentence with its arcs, the board, bars, and the line over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from cahp.board.colours import COLOURS, STRIPED, contrast, tints
from cahp.board.head_clusters import HeadClusters
from cahp.board.scripts import SHARED, join_scripts
from cahp.features.learn.lessons import Answer, Step, Subject
from cahp.features.learn.scene import HeadFamily, Scene
from cahp.features.learn.turn import TURN
from cahp.outcomes import OUTCOMES
from cahp.ui.frame.board import shape_key
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
