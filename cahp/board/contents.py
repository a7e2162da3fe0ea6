"""The parts of a board for its hosts: plain data from a table of budgets, a person's events, script and style sheet."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cahp.board.colours import COLOURS, STRIPED, contrast, letters, tints
from cahp.outcomes import OUTCOMES, Outcomes
from cahp.recoveries import RECOVERIES
from cahp.studies.budget_sweep import BudgetTable, Row, Speed
from cahp.studies.head_clusters import HeadClusters
from cahp.values import HeadMask, Ints

#: Up to so many heads, replacement heads are part of every update; beyond, they are computed when one is asked for.
_ALWAYS = 512
_CORE = Path(__file__).parent / "core"
#: The files of the script, each after those that it imports.
_FILES = ("elements.js", "figures.js", "heads.js", "curves.js", "board.js")


@dataclass(frozen=True)
class Event:
    """A person's action: the slider was released at ``budget``, or ``head`` was toggled or asked about."""

    kind: Literal["budget", "toggle", "ask"]
    budget: int = 0
    head: int = 0

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Event:
        """Read an event of the board's script."""
        return cls(message["kind"], budget=int(message.get("budget", 0)), head=int(message.get("head", 0)))


@dataclass(frozen=True, eq=False)
class Shown:
    """The mask on the board with its measured figures.

    ``origin`` tells how the mask was chosen; other words than these three are shown unchanged. ``rescued`` are the
    heads added by the per-layer minimum. ``places`` are the indices of the layers in the model, if layers between them
    have no heads. ``pinned`` is another mask, A: the board marks the heads that only one of the two keeps.
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
    """Return the data that ``mount`` and ``update`` of the board's script take, as JSON values.

    Args:
        table: All budgets with their measurements.
        clusters: The clusters of all budgets.
        shown: The mask on the board.
        labels: The cluster that colours each head ``(N,)``.
        selected: The head that was asked about.
        status: Why a figure is not measured yet.
        still: Whether the board has no slider and no curves.
        alone: Whether it has no host to measure: the data then contain the clusters and replacement heads of every
            budget, about ``7 N B`` bytes for ``N`` heads and ``B`` budgets.
        chance: The share of the most frequent class of the evaluation texts.
    """
    rows, full, mask, smooth = table.rows(), table.full, shown.mask, clusters.smoothed
    at = mask.count - table.budgets[0]
    row = rows[at] if 0 <= at < len(rows) else None
    # Time hardly depends on which heads are pruned, so the budget's estimate serves a person's own mask, too. Accuracy
    # does, so its estimate serves the budget's own mask alone.
    ratio = None if row is None else row.ratio
    own = row if row is not None and table.has(mask) else None
    accuracy, glimpse = (None, None) if own is None else (own.accuracy, own.glimpse)
    data: dict[str, Any] = {
        "layers": clusters.layers,
        "heads": clusters.heads,
        "budgets": list(table.budgets),
        "kept": [_packed(selection.mask) for selection in table.selections],
        "rows": [
            {
                **_figures(row),
                "rescued": list(selection.rescued),
                **({"uncuttable": True} if selection.mask.empty_layers else {}),
            }
            for row, selection in zip(rows, table.selections, strict=True)
        ],
        "ks": clusters.clustering.ks.tolist(),
        "mss": [round(float(value), 4) for value in clusters.clustering.mss],
        "smooth": None if smooth is None else {"degree": smooth[0], "values": [round(float(y), 4) for y in smooth[1]]},
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
        data["names"] = [letters(cluster) for cluster in range(labels.size)]
        # Each budget's clusters, colours and replacement heads.
        data["readings"] = []
        for selection in table.selections:
            groups, _ = clusters.groups(selection.mask.count if selection.k is None else selection.k)
            data["readings"].append(
                {
                    "labels": _base64(groups.astype("<u2")),
                    "tints": _base64(tints(groups).astype(np.uint8)),
                    "covers": _base64(clusters.covers(selection.mask, groups).astype("<u2")),
                }
            )
    if alone or selected is not None or labels.size <= _ALWAYS:
        data["current"]["covers"] = clusters.covers(mask, labels).tolist()
    if selected is not None and selected < labels.size:
        # The distance to the replacement head, and the median distance of two heads.
        distances, cover = clusters.distances, data["current"]["covers"][selected]
        median = np.median(distances[np.triu_indices(len(distances), 1)])
        data["asked"] = {"distance": float(distances[selected, cover]), "median": float(median)}
    return data


def _packed(mask: HeadMask) -> str:
    return _base64(np.packbits(mask.keep.ravel()))


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _figures(row: Row) -> dict[str, Any]:
    outcomes, speed = row.outcomes, row.speed
    figures: dict[str, Any] = {"accuracy": _short(row.accuracy), "ratio": _short(row.ratio)}
    if row.glimpse is not None:
        figures["glimpsed"] = row.glimpse.n
    if outcomes is not None:
        others = dict(outcomes)
        accuracy, change = others.pop("accuracy"), others.pop("accuracy_change")
        figures |= {
            "accuracy": accuracy.value,
            "low": _short(accuracy.low),
            "high": _short(accuracy.high),
            "n": accuracy.n,
            "pp": _short(change.value),
            "ppLow": _short(change.low),
            "ppHigh": _short(change.high),
            "others": [f"{OUTCOMES[name].label} {outcome.text}" for name, outcome in others.items()],
        }
    if speed is not None:
        figures |= {
            "ratio": _short(speed.ratio.value),
            "ratioLow": _short(speed.ratio.low),
            "ratioHigh": _short(speed.ratio.high),
            "ms": _short(speed.pruned_ms),
            "fullMs": _short(speed.full_ms),
        }
        if speed.ratio.n:
            figures["rounds"] = speed.ratio.n
        if speed.busy:
            figures["busy"] = True
    return figures


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


# Script and style sheet --------------------------------------------------------------------------------------


def script(host: str) -> str:
    """Return the core as an ES module, followed by the lines of a host, which can call its ``mount``.

    Names of the core do not collide with the host's.
    """
    core = "\n".join((_CORE / file).read_text(encoding="utf-8") for file in _FILES)
    core = re.sub(r"^import .*\n|^export (?=const|function|class)", "", core, flags=re.MULTILINE)
    host = re.sub(r"^import .*\n", "", host, flags=re.MULTILINE)
    return f"const mount = (() => {{\n{core}\nreturn mount;\n}})();\n{host}\n"


@cache
def style() -> str:
    """Return the style sheet, whose rules apply inside of a board only."""
    return (_CORE / "board.css").read_text(encoding="utf-8")
