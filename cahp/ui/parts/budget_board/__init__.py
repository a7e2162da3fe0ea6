"""The board that answers while a budget is dragged: one table in, a released budget or a clicked head out."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import streamlit as st

from cahp.figures import palette
from cahp.stages.clustering import smoothed
from cahp.studies.budget_sweep import BudgetTable, Quality, Row, Speed
from cahp.studies.head_clusters import HeadClusters
from cahp.values import Clustering, HeadMask, Ints

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Event:
    """What a person did: released the slider at ``budget``, or toggled or asked about ``head``."""

    kind: Literal["budget", "toggle", "ask"]
    budget: int = 0
    head: int = 0


@dataclass(frozen=True, eq=False)
class Shown:
    """The mask on the board, and its figures as far as they are measured."""

    mask: HeadMask
    origin: Literal["auto", "hand", "budget"]
    quality: Quality | None
    speed: Speed | None
    note: str = ""
    rescued: Sequence[int] = ()


def budget_board(
    table: BudgetTable,
    clusters: HeadClusters,
    shown: Shown,
    *,
    labels: Ints,
    key: str,
    on_event: Callable[[Event], None] | None = None,
    selected: int | None = None,
    status: str = "",
) -> None:
    """Draw the board; ``on_event`` is told what a person did on it before the page runs again.

    ``labels (N,)`` are the clusters that colour the heads; ``status`` says what keeps a figure waiting. Without
    ``on_event`` the board is still: grid and figures.
    """

    def told() -> None:
        said = st.session_state[key].event
        if said is not None and on_event is not None:
            on_event(Event(said["kind"], budget=int(said.get("budget", 0)), head=int(said.get("head", 0))))

    data = _data(table, clusters, shown, labels, selected, status, on_event is None)
    _component()(key=key, data=data, on_event_change=told)


def _component() -> Any:
    js, css = _sources()
    return st.components.v2.component("cahp_budget_board", js=js, css=css)


@cache
def _sources() -> tuple[str, str]:
    return (_HERE / "board.js").read_text(encoding="utf-8"), (_HERE / "board.css").read_text(encoding="utf-8")


def _data(
    table: BudgetTable,
    clusters: HeadClusters,
    shown: Shown,
    labels: Ints,
    selected: int | None,
    status: str,
    still: bool,
) -> dict[str, Any]:
    rows = table.rows()
    colours = palette.hues(labels)
    full = table.full
    mask = shown.mask
    at = mask.count - table.budgets[0]
    # Time hardly depends on which heads go, so the budget's estimate serves a mask of one's own, as an estimate.
    ratio = rows[at].ratio if 0 <= at < len(rows) else None
    return {
        "layers": clusters.layers,
        "heads": clusters.heads,
        "budgets": list(table.budgets),
        "kept": [_packed(selection.mask) for selection in table.selections],
        "rows": [_row(row) | {"rescued": list(table.selection(row.budget).rescued)} for row in rows],
        "ks": clusters.clustering.ks.tolist(),
        "mss": [round(float(value), 4) for value in clusters.clustering.mss],
        "smooth": _smooth(clusters.clustering),
        "knee": clusters.clustering.knee,
        "labels": labels.tolist(),
        "colours": colours,
        "inks": [palette.contrast(colour) for colour in colours],
        "names": [palette.letters(cluster) for cluster in range(len(colours))],
        "full": None if full is None else {"accuracy": full.accuracy, "n": full.n},
        "recovered": table.recover == "refit",
        "status": status,
        "still": still,
        "selected": selected,
        "current": {
            **_row(Row(mask.count, None, shown.quality, ratio, shown.speed)),
            "budget": mask.count,
            "kept": _packed(mask),
            "origin": shown.origin,
            "note": shown.note,
            "rescued": list(shown.rescued),
            "uncuttable": bool(mask.empty_layers),
        },
    }


def _packed(mask: HeadMask) -> str:
    return base64.b64encode(np.packbits(mask.keep.ravel()).tobytes()).decode("ascii")


def _row(row: Row) -> dict[str, Any]:
    quality, speed = row.quality, row.speed
    found: dict[str, Any] = {"accuracy": _short(row.accuracy), "ratio": _short(row.ratio)}
    if quality is not None:
        found |= {
            "accuracy": quality.accuracy,
            "low": _short(quality.ci95[0]),
            "high": _short(quality.ci95[1]),
            "n": quality.n,
            "f1": _short(quality.macro_f1),
            "agreement": _short(quality.agreement),
            "pp": _short(quality.pp),
            "ppLow": _short(quality.pp_ci95[0]),
            "ppHigh": _short(quality.pp_ci95[1]),
        }
    if speed is not None:
        found |= {
            "ratio": _short(speed.ratio),
            "ratioLow": _short(speed.ci95[0]),
            "ratioHigh": _short(speed.ci95[1]),
            "ms": _short(speed.pruned_ms),
            "fullMs": _short(speed.full_ms),
        }
    return found


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _smooth(clustering: Clustering) -> dict[str, Any] | None:
    fitted = smoothed(clustering)
    return None if fitted is None else {"degree": fitted[0], "values": [round(float(value), 4) for value in fitted[1]]}
