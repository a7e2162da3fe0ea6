"""The parts of a board for its hosts: plain data from a table of budgets, a person's events, script and style sheet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp.board.budget_sweep import BudgetTable, Row, Speed
from cahp.board.colourings import COLOURS, STRIPED, Coloured, contrast, encode, pack_bytes
from cahp.board.head_clusters import HeadClusters
from cahp.files import plain_json
from cahp.models.cards import CacheShape
from cahp.outcomes import HEADLINES, Outcomes
from cahp.recoveries import RECOVERIES
from cahp.run.document import RunDocument
from cahp.stages import Arc
from cahp.tasks.task import TaskWords
from cahp.values import Estimate, Fields, HeadMask, Ints, JsonObject
from cahp.values.statistics import name_clusters
from cahp.words import number, percent, too_close

# A sentence on a board ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class WordMaps:
    """What the heads of the full model attend to in a sentence, word by word.

    ``words (W,)`` are its first words of ``length`` words, ``arcs (N,)`` the strongest attention of each head, and
    ``looks (N, W)`` the most that a head attends to each word from another one, in 255ths. ``pictures`` are the packed
    bytes ``(N, 1 + W, 1 + W)`` of the attention between the words, each head on a scale of its own, with what goes to
    no word in a column before them (empty: not known).
    """

    words: tuple[str, ...]
    length: int
    arcs: tuple[tuple[Arc, ...], ...]
    looks: NDArray[np.uint8]
    pictures: str = ""


class SentenceAnswer(NamedTuple):
    """A predicted class with its probability."""

    name: str
    probability: float


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence with its answers; what is not measured is None.

    ``answers (B,)`` are those at ``budgets (B,)``, in the words ``over`` ("as pruned", "after refit"). ``full`` is that
    with all heads, and ``kept`` that of the mask on the board, in the words ``state``. ``waits`` tells what is being
    measured.
    """

    maps: WordMaps | None
    budgets: Sequence[int] = ()
    answers: Sequence[SentenceAnswer] = ()
    full: SentenceAnswer | None = None
    kept: SentenceAnswer | None = None
    state: str = ""
    waits: str = ""
    over: str = ""


# What a mask is worth in words; nothing is claimed that was not measured or counted ------------------------------


#: Tokens of a context whose cache is named, at most as many as the model reads.
_CONTEXT = 8192
#: A smaller share rounds to 0 %.
_LEAST = 0.005


def describe_headline(mask: HeadMask, unit: str, outcomes: Outcomes | None, words: TaskWords) -> str:
    """Describe how much of the work the kept heads do, by their agreement with the full model (None: not measured)."""
    if mask.is_full:
        return f"All {mask.count} {unit}s"
    headline = f"{mask.count} of {mask.keep.size} {unit}s"
    agreement = (outcomes or {}).get("agreement")
    if agreement is None:
        return headline
    does = next(does for least, does in words.headlines if agreement.value >= least)
    return f"{headline} {does}"


def list_clauses(
    mask: HeadMask,
    outcomes: Outcomes | None,
    *,
    answers: str,
    cache: Estimate | None = None,
    speed: Speed | None = None,
    size: float | None = None,
) -> list[str]:
    """List what a mask changes: the accuracy, then what it saves. Without an accuracy, unchanged ``answers`` come last.

    ``cache`` is the share of the bytes of keys and values per token that remains, and ``size`` that of the weights,
    both counted (None: not known). The full model changes nothing.
    """
    if mask.is_full:
        return []
    measured = outcomes or {}
    clauses = []
    if "accuracy_change" in measured:
        clauses.append(_describe_change(measured["accuracy_change"]))
    if cache is not None and 1 - cache.value >= _LEAST:
        clauses.append(f"{percent(1 - cache.value, 0)} less memory per token")
    if speed is not None and not speed.busy and speed.ratio.excludes(1):
        direction = "slower" if speed.ratio.value > 1 else "faster"
        clauses.append(f"{percent(abs(1 - speed.ratio.value), 0)} {direction}")
    if size is not None and 1 - size >= _LEAST:
        clauses.append(f"{percent(1 - size, 0)} smaller")
    if "accuracy_change" not in measured and "agreement" in measured:
        clauses.append(f"{percent(measured['agreement'].value, 0)} of {answers} unchanged")
    return clauses


def _describe_change(points: Estimate) -> str:
    """Describe a change in accuracy, in points; where its interval contains 0, it is too close to call."""
    if not points.excludes(0):
        return f"accuracy {too_close(points.n)}"
    direction = "more" if points.value > 0 else "less"
    return f"{number(abs(points.value))} points {direction} accurate"


_CORE = Path(__file__).parent / "core"
#: The files of the script, each after those that it imports.
_FILES = (
    "elements.js",
    "figures.js",
    "gains.js",
    "heads.js",
    "goal.js",
    "curves.js",
    "strip.js",
    "arcs.js",
    "sentence.js",
    "inspector.js",
    "keys.js",
    "board.js",
)


@dataclass(frozen=True)
class Event:
    """A person's action.

    The slider was released at ``budget``, ``head`` was removed or restored, or its card was asked for, ``name`` was
    chosen as the colouring or the recovery, the last change was undone, or the suggested budget was asked for.
    """

    kind: Literal["budget", "toggle", "ask", "colour", "recover", "undo", "suggested"]
    budget: int = 0
    head: int = 0
    name: str = ""

    @classmethod
    def of(cls, message: Fields) -> Event:
        """Read an event of the board's script."""
        return msgspec.convert(message, cls, strict=False)


@dataclass(frozen=True, eq=False)
class Shown:
    """The mask on the board with its measured figures.

    ``origin`` tells how the mask was chosen; other words than these three are shown unchanged. ``method`` is another
    method that chose it, where the origin is ``hand`` (empty: a person did). ``rescued`` are the
    heads added by the per-layer minimum. ``places`` are the indices of the layers in the model, if layers between them
    have no heads. ``pinned`` is another mask, A: the board marks the heads that only one of the two keeps. ``glimpse``
    are the outcomes on the texts so far, while the mask is measured. ``how`` names the recovery of both, where it is
    not that of the table. ``beside`` are the words of another recovery and the outcomes of the same mask after it.
    """

    mask: HeadMask
    origin: Literal["auto", "hand", "budget"] | str
    outcomes: Outcomes | None
    speed: Speed | None
    note: str = ""
    rescued: Sequence[int] = ()
    places: Sequence[int] | None = None
    pinned: HeadMask | None = None
    glimpse: Outcomes | None = None
    how: str = ""
    beside: tuple[str, Outcomes] | None = None
    method: str = ""


@dataclass(frozen=True)
class BoardSubject:
    """What a board is about, the same for all masks.

    ``unit`` is what a square stands for, in the singular, ``chance`` the share of the most frequent class of the
    evaluation texts (None: no labels), and ``cache`` the size of a causal language model's cache of keys and values,
    which is shown in place of the time (None: another model). ``head_size`` is the share of the model's weights that
    leave with a head (None: not counted), ``bypass_size`` the share that a bypass adds to a layer that lost heads.
    Intervals are over ``units``, and an outcome is a mean over every ``answer``: a text, or a token.
    """

    unit: str = "head"
    chance: float | None = None
    cache: CacheShape | None = None
    head_size: float | None = None
    bypass_size: float = 0.0
    units: str = "texts"
    answer: str = "text"

    @classmethod
    def of(cls, run: RunDocument) -> BoardSubject:
        """Return what the board of a finished run is about."""
        full = run.cost.full.parameters
        pruned = run.cost.pruned.parameters
        mask = run.mask
        head_size = None
        if full and pruned and not (mask.is_full or RECOVERIES[run.settings.recover].adds_bypass):
            head_size = (1 - pruned / full) / (mask.keep.size - mask.count)
        chance = run.data.eval.most_frequent
        return cls(run.model.unit, chance, run.cache_shape, head_size, units=run.units, answer=run.task.words.place)

    def size(self, mask: HeadMask) -> float | None:
        """Return the number of weights of the model cut to ``mask`` relative to the full model's (None: not known)."""
        if self.head_size is None:
            return None
        return 1 - self.head_size * (mask.keep.size - mask.count) + self.bypass_size * mask.cut_layers


@dataclass(frozen=True, eq=False)
class FirstScreen:
    """What the first screen shows in place of many figures.

    ``answers`` is what predictions are called there. ``sentence`` is a person's text (None: it is not on the board).
    ``colouring`` is the one that the board opens with (empty: clusters). ``recoveries`` are those that can be chosen,
    by name in the words of their figures, and ``recovery`` is the chosen one.
    """

    answers: str = "answers"
    sentence: Sentence | None = None
    colouring: str = ""
    recoveries: Mapping[str, str] = field(default_factory=dict)
    recovery: str = ""


@dataclass(frozen=True, eq=False)
class Host:
    """What the host of a board asks for and adds.

    ``selected`` is the head that the host was told of last, ``facts`` are what it knows of the heads, as
    ``inspector.js`` takes them. ``status`` tells why a figure is not measured yet. Alone, without a host that measures,
    the data contain the clusters and replacement heads of every budget, about ``7 N B`` bytes for
    ``N`` heads and ``B`` budgets. ``titles`` are the finding of the mask, then those of all budgets, which the host's
    heading shows. ``colourings`` are those beside clusters. ``steps`` are ways back: whether there is a change to
    ``undo``, and a ``suggested`` budget that is not on the board (None: the host offers its own). With ``cards``, the
    host has a card of each head. ``details`` tells whether figures and curves are open at first (None: they cannot be
    closed). ``first`` is given on the first screen only.
    """

    selected: int | None = None
    status: str = ""
    alone: bool = False
    titles: Sequence[str] = ()
    colourings: Sequence[Coloured] = ()
    steps: Fields | None = None
    cards: bool = False
    details: bool | None = None
    first: FirstScreen | None = None
    facts: Fields = field(default_factory=dict)


def contents(
    table: BudgetTable,
    clusters: HeadClusters,
    shown: Shown,
    *,
    labels: Ints,
    subject: BoardSubject = BoardSubject(),
    host: Host = Host(),
    other: BudgetTable | None = None,
) -> JsonObject:
    """Return the data that ``mount`` and ``update`` of the board's script take, as JSON values.

    Args:
        table: All budgets with their measurements.
        clusters: The clusters of all budgets.
        shown: The mask on the board.
        labels: The cluster of each head ``(N,)``.
        subject: What is the same for all masks: what a square stands for, the baseline, and the cache.
        host: What the host of the board asks for and adds.
        other: The same budgets after another recovery: its outcomes stand beside those of ``table``.
    """
    mask = shown.mask
    recovery = RECOVERIES[table.recover]
    masks = [selection.mask for selection in table.selections]
    measured = table.rows()
    rows = []
    for row, selection in zip(measured, table.selections, strict=True):
        rows.append({**_list_figures(row), "rescued": selection.rescued})
    current = _describe_current(table, measured, shown)
    current["covers"] = clusters.covers(mask, labels)
    entries = [current, *rows]
    context = min(_CONTEXT, (subject.cache and subject.cache.positions) or _CONTEXT)
    for entry, own in zip(entries, (mask, *masks), strict=True):
        entry["size"] = _short(subject.size(own))
        if subject.cache is not None:
            entry["cache"] = subject.cache.per_token(own)
            entry["memory"] = subject.cache.of_context(own, context)
    data = {
        "layers": clusters.layers,
        "heads": clusters.heads,
        "ks": clusters.clustering.ks,
        "mss": clusters.clustering.mss.round(4),
        "knee": clusters.clustering.knee,
        "labels": labels,
        "tints": clusters.tints,
        "names": name_clusters(labels, clusters.families),
        "families": clusters.families,
        "nearest": clusters.nearest,
        "facts": host.facts,
        "budgets": table.budgets,
        "outcomes": _list_outcomes(table, entries, subject),
        "per": subject.answer,
        "units": subject.units,
        "recovered": recovery.noun,
        "trained": recovery.trains,
        "unmeasured": "",
        "unit": subject.unit,
        "cache": subject.cache and subject.cache.per_token(masks[-1]),
        "context": context,
        "colours": COLOURS,
        "inks": list(map(contrast, COLOURS)),
        "striped": STRIPED,
        "colourings": encode(host.colourings),
        "kept": list(map(_pack, masks)),
        "rows": rows,
        "current": current,
        "places": shown.places,
        "pinned": shown.pinned and _pack(shown.pinned),
        "status": host.status,
        "selected": host.selected,
        "cards": host.cards,
        "steps": host.steps,
        "details": host.details,
        "titles": host.titles,
        "first": host.first,
    }
    if recovery.on_request:
        data["unmeasured"] = f"not {recovery.result} yet"
    if other is not None:
        for entry, row in zip(rows, other.rows()[:-1], strict=False):
            if row.outcomes is not None:
                entry["other"] = _list_values(row.outcomes)
                data["other"] = RECOVERIES[other.recover].beside
    if host.alone:
        data["readings"] = _list_readings(table, clusters)
    return dict(plain_json(data))


def _describe_current(table: BudgetTable, rows: Sequence[Row], shown: Shown) -> JsonObject:
    """Return the figures of the mask on the board, with the estimates of its budget that serve it."""
    mask = shown.mask
    budget = next((row for row in rows if row.budget == mask.count), Row(mask.count, {}, None, None, None))
    # Time hardly depends on which heads are pruned, so the budget's estimate serves a person's own mask, too. Answers
    # do, so their estimates serve the budget's own mask alone.
    values: Mapping[str, float] = {}
    if table.has(mask):
        values = budget.values
    row = Row(mask.count, values, shown.outcomes or shown.glimpse, budget.ratio, shown.speed)
    current = _list_figures(row) | {
        "budget": mask.count,
        "kept": _pack(mask),
        "origin": shown.origin,
        "method": shown.method,
        "note": shown.note,
        "how": shown.how,
        "rescued": shown.rescued,
    }
    if shown.glimpse and not shown.outcomes:
        current["glimpsed"] = max(estimate.n for estimate in shown.glimpse.values())
    if shown.beside is not None:
        words, outcomes = shown.beside
        current |= {"beside": words, "other": _list_values(outcomes)}
    return current


def _list_readings(table: BudgetTable, clusters: HeadClusters) -> list[JsonObject]:
    """Return the clusters of each budget, their names and replacement heads."""
    readings = []
    for selection in table.selections:
        groups, _ = clusters.groups(selection.k or selection.mask.count)
        covers = clusters.covers(selection.mask, groups)
        readings.append(
            {
                "labels": pack_bytes(groups.astype("<u2")),
                "covers": pack_bytes(covers.astype("<u2")),
                "names": name_clusters(groups, clusters.families),
            }
        )
    return readings


def _list_outcomes(table: BudgetTable, entries: Iterable[Fields], subject: BoardSubject) -> list[Any]:
    """Return the outcomes that some of the ``entries`` have, with that of the full model and the baseline of labels.

    Before the first measurement all are expected.
    """
    measured = {name for entry in entries for name in entry["values"]}
    outcomes = []
    for row in HEADLINES:
        if row.name in measured or not measured:
            full = (table.full or {}).get(row.name)
            chance = subject.chance if row.needs_labels else None
            outcomes.append(
                {
                    "name": row.name,
                    "label": row.label,
                    "unit": row.unit,
                    "chance": chance,
                    "full": full and full.value,
                    "n": full and full.n,
                }
            )
    return outcomes


def _list_figures(row: Row) -> JsonObject:
    """Return a row for the script: values of outcomes, estimated ones without an interval, and the time."""
    values = {name: [_short(value)] for name, value in row.values.items()}
    values |= _list_values(row.outcomes or {})
    ratio = row.ratio
    if row.speed is not None:
        ratio = row.speed.ratio.value
    return {"values": values, "ratio": _short(ratio), "speed": row.speed}


def _list_values(outcomes: Outcomes) -> dict[str, list[float | None]]:
    """Return the value of each outcome on a board, with low, high and n where it has an interval."""
    values: dict[str, list[float | None]] = {}
    for name in (*(row.name for row in HEADLINES), "accuracy_change"):
        if name in outcomes:
            estimate = outcomes[name]
            values[name] = [estimate.value]
            if estimate.ci95 is not None:
                values[name] += [_short(estimate.low), _short(estimate.high), estimate.n]
    return values


def _pack(mask: HeadMask) -> str:
    return pack_bytes(np.packbits(mask.keep.ravel()))


def _short(value: float | None) -> float | None:
    """Round to five significant digits: a table has a thousand budgets."""
    if value is None:
        return None
    return float(f"{value:.5g}")


# Script and style sheet --------------------------------------------------------------------------------------


def script(host: str) -> str:
    """Return the core as an ES module, followed by the lines of a host, which can call its ``mount``.

    Names of the core do not collide with the host's.
    """
    core = join_scripts(_CORE / file for file in _FILES)
    host = re.sub(r"^import .*\n", "", host, flags=re.MULTILINE)
    return f"const mount = (() => {{\n{core}\nreturn mount;\n}})();\n{host}\n"


@cache
def style() -> str:
    """Return the style sheet, whose rules apply inside of a board only."""
    return (_CORE / "board.css").read_text(encoding="utf-8")


@cache
def read_component(style: Path, *scripts: Path) -> tuple[str, str]:
    """Return the script and the style sheet of another component, whose ``scripts`` draw with elements of the board."""
    shared = (_CORE / "elements.js", _CORE / "arcs.js")
    return join_scripts((*shared, *scripts)), style.read_text(encoding="utf-8")


def join_scripts(files: Iterable[Path]) -> str:
    """Join ``files``, each after those that it imports, to one script without imports and named exports."""
    script = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return re.sub(r"^import .*\n|^export (?=const|function|class)", "", script, flags=re.MULTILINE)
