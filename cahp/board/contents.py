"""What a board is given to draw: plain data out of a table of budgets, and what a person does on it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.board.colours import COLOURS, STRIPED, contrast, letters, tints
from cahp.outcomes import OUTCOMES, Outcome, Outcomes
from cahp.recoveries import RECOVERIES
from cahp.studies.budget_sweep import BudgetTable, Row, Speed
from cahp.studies.head_clusters import HeadClusters
from cahp.values import HeadMask, Ints

#: Up to so many heads, who covers for each of them is found in no time; beyond, where one is asked about.
_ALWAYS = 512


@dataclass(frozen=True)
class Event:
    """What a person did: released the slider at ``budget``, or toggled or asked about ``head``."""

    kind: Literal["budget", "toggle", "ask"]
    budget: int = 0
    head: int = 0

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Event:
        """As the board's script tells it."""
        return cls(said["kind"], budget=int(said.get("budget", 0)), head=int(said.get("head", 0)))


@dataclass(frozen=True, eq=False)
class Shown:
    """The mask on the board, and its figures as far as they are measured.

    ``origin`` says where it comes from; other words than these three are shown as they are. ``places`` are the indices
    of the layers in the model, where others between them have no heads. ``pinned`` is another mask, A: the board marks
    the heads that only one of the two keeps.
    """

    mask: HeadMask
    origin: Literal["auto", "hand", "budget"] | str
    outcomes: Outcomes | None
    speed: Speed | None
    note: str = ""
    rescued: Sequence[int] = ()
    places: Sequence[int] | None = None
    pinned: HeadMask | None = None


def contents(
    table: BudgetTable,
    clusters: HeadClusters,
    shown: Shown,
    *,
    labels: Ints,
    selected: int | None = None,
    status: str = "",
    still: bool = False,
    alone: bool = False,
    chance: float | None = None,
) -> dict[str, Any]:
    """What ``mount`` and ``update`` of the board's script take, as JSON can say it.

    ``labels (N,)`` are the clusters that colour the heads; ``selected`` is the head that was asked about; ``status``
    says what keeps a figure waiting. ``still`` is a board without slider and curves: grid and figures. ``alone`` is one
    that nobody answers: it takes the clusters of every budget along, and who covers for whom, about ``7 N B`` bytes for
    ``N`` heads and ``B`` budgets. ``chance`` is the share of the most frequent class of the evaluation texts.
    """
    rows = table.rows()
    full = table.full
    mask = shown.mask
    at = mask.count - table.budgets[0]
    row = rows[at] if 0 <= at < len(rows) else None
    # Time hardly depends on which heads go, so the budget's estimate serves a mask of one's own, as an estimate. How it
    # answers does: that estimate is of the budget's own mask alone.
    ratio = None if row is None else row.ratio
    own = row if row is not None and table.has(mask) else None
    accuracy, glimpse = (None, None) if own is None else (own.accuracy, own.glimpse)
    data: dict[str, Any] = {
        "layers": clusters.layers,
        "heads": clusters.heads,
        "budgets": list(table.budgets),
        "kept": [_packed(selection.mask) for selection in table.selections],
        "rows": [_row(row, table) for row in rows],
        "ks": clusters.clustering.ks.tolist(),
        "mss": [round(float(value), 4) for value in clusters.clustering.mss],
        "smooth": _smooth(clusters),
        "knee": clusters.clustering.knee,
        "labels": labels.tolist(),
        "tints": tints(labels).tolist(),
        "colours": COLOURS,
        "inks": [contrast(colour) for colour in COLOURS],
        "striped": STRIPED,
        "names": [letters(cluster) for cluster in range(int(labels.max()) + 1)],
        "full": None if full is None else {"accuracy": full["accuracy"].value, "n": full["accuracy"].n},
        "chance": _short(chance),
        "recovered": RECOVERIES[table.recover].noun,
        "unmeasured": "" if RECOVERIES[table.recover].swept else f"not {RECOVERIES[table.recover].result} yet",
        "status": status,
        "still": still,
        "selected": selected,
        "current": {
            **_figures(Row(mask.count, accuracy, shown.outcomes, ratio, shown.speed, glimpse)),
            "budget": mask.count,
            "kept": _packed(mask),
            "origin": shown.origin,
            "note": shown.note,
            "rescued": list(shown.rescued),
            "uncuttable": bool(mask.empty_layers),
        },
    }
    if shown.places is not None:
        data["places"] = list(shown.places)
    if shown.pinned is not None:
        data["pinned"] = _packed(shown.pinned)
    if alone:
        data["readings"] = _readings(table, clusters)
        data["names"] = [letters(cluster) for cluster in range(labels.size)]
    if alone or selected is not None or labels.size <= _ALWAYS:
        data["current"]["covers"] = clusters.covers(mask, labels).tolist()
    if selected is not None and selected < labels.size:
        data["asked"] = _asked(clusters, data["current"]["covers"][selected], selected)
    return data


def _asked(clusters: HeadClusters, cover: int, head: int) -> dict[str, float]:
    """How far the head that was asked about lies from its cover, and two heads from each other on median."""
    apart = clusters.distances[np.triu_indices(len(clusters.distances), 1)]
    return {"distance": float(clusters.distances[head, cover]), "median": float(np.median(apart))}


def _readings(table: BudgetTable, clusters: HeadClusters) -> list[dict[str, str]]:
    """The clusters that colour each budget's heads, and who covers for whom."""
    found = []
    for selection in table.selections:
        labels, _ = clusters.groups(selection.mask.count if selection.k is None else selection.k)
        found.append(
            {
                "labels": _base64(labels.astype("<u2")),
                "tints": _base64(tints(labels).astype(np.uint8)),
                "covers": _base64(clusters.covers(selection.mask, labels).astype("<u2")),
            }
        )
    return found


def _packed(mask: HeadMask) -> str:
    return _base64(np.packbits(mask.keep.ravel()))


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _row(row: Row, table: BudgetTable) -> dict[str, Any]:
    selection = table.selection(row.budget)
    found = {**_figures(row), "rescued": list(selection.rescued)}
    return {**found, "uncuttable": True} if selection.mask.empty_layers else found


def _figures(row: Row) -> dict[str, Any]:
    outcomes, speed = row.outcomes, row.speed
    found: dict[str, Any] = {"accuracy": _short(row.accuracy), "ratio": _short(row.ratio)}
    if row.glimpse is not None:
        found["glimpsed"] = row.glimpse.n
    if outcomes is not None:
        accuracy, change = outcomes["accuracy"], outcomes["accuracy_change"]
        found |= {
            "accuracy": accuracy.value,
            "low": _short(accuracy.low),
            "high": _short(accuracy.high),
            "n": accuracy.n,
            "pp": _short(change.value),
            "ppLow": _short(change.low),
            "ppHigh": _short(change.high),
            "others": [f"{row.label} {outcomes[row.name].text}" for row in OUTCOMES.values() if _beside(row, outcomes)],
        }
    if speed is not None:
        found |= {
            "ratio": _short(speed.ratio.value),
            "ratioLow": _short(speed.ratio.low),
            "ratioHigh": _short(speed.ratio.high),
            "ms": _short(speed.pruned_ms),
            "fullMs": _short(speed.full_ms),
        }
        if speed.ratio.n:
            found["rounds"] = speed.ratio.n
        if speed.busy:
            found["busy"] = True
    return found


def _beside(row: Outcome, outcomes: Outcomes) -> bool:
    """Whether an outcome is a line under the accuracy."""
    return row.name in outcomes and row.name not in ("accuracy", "accuracy_change")


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _smooth(clusters: HeadClusters) -> dict[str, Any] | None:
    fitted = clusters.smoothed
    return None if fitted is None else {"degree": fitted[0], "values": [round(float(value), 4) for value in fitted[1]]}
