"""The parts of a board for its hosts: plain data from a table of budgets, a person's events, script and style sheet."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cahp.board.budget_sweep import BudgetTable, Row, Speed
from cahp.board.colourings import COLOURS, STRIPED, Coloured, contrast, paint
from cahp.board.head_clusters import HeadClusters
from cahp.models.cards import CacheShape
from cahp.outcomes import HEADLINES, OUTCOMES, Outcome, Outcomes
from cahp.recoveries import RECOVERIES
from cahp.run.document import RunDocument
from cahp.values import Estimate, HeadMask, Ints
from cahp.values.statistics import name_clusters
from cahp.words import number, percent, span, too_close

if TYPE_CHECKING:
    from cahp.stages import Arc

# A sentence on a board ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class WordMaps:
    """What the heads of the full model attend to in a sentence, word by word.

    ``words (W,)`` are its first words of ``length`` words, ``arcs (N,)`` the strongest attention of each head, and
    ``looks (N, W)`` the most that a head attends to each word from another one, in 255ths.
    """

    words: tuple[str, ...]
    length: int
    arcs: tuple[tuple[Arc, ...], ...]
    looks: NDArray[np.uint8]


class SentenceAnswer(NamedTuple):
    """A predicted class with its probability."""

    name: str
    probability: float

    def as_data(self) -> list[Any]:
        """Return it as the board's script takes it."""
        return [self.name, round(self.probability, 4)]


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence with its answers; what is not measured is None.

    ``answers (B,)`` are those as pruned at ``budgets (B,)``, with ``full`` for all heads, and ``kept`` is that of the
    mask on the board, in the words ``state`` ("as pruned", "after refit"). ``waits`` tells what is being measured.
    """

    maps: WordMaps | None
    budgets: Sequence[int] = ()
    answers: Sequence[SentenceAnswer] = ()
    full: SentenceAnswer | None = None
    kept: SentenceAnswer | None = None
    state: str = ""
    waits: str = ""

    @property
    def changed(self) -> list[int]:
        """The budgets whose answer is another one than with all heads."""
        if self.full is None:
            return []
        rows = zip(self.budgets, self.answers, strict=True)
        return [budget for budget, answer in rows if answer.name != self.full.name]

    @property
    def flip(self) -> int | None:
        """The largest budget whose answer is another one (None: it never changes)."""
        return max(self.changed, default=None)

    def as_data(self) -> dict[str, Any]:
        """Return it as the board's script takes it."""
        data: dict[str, Any] = {
            "budgets": list(self.budgets),
            "answers": [answer.as_data() for answer in self.answers],
            "full": self.full and self.full.as_data(),
            "kept": self.kept and self.kept.as_data(),
            "state": self.state,
            "waits": self.waits,
            "changed": self.changed,
            "flip": self.flip,
        }
        if self.maps is not None:
            data["words"] = list(self.maps.words)
            data["length"] = self.maps.length
            data["arcs"] = [[[*arc[:2], round(arc.weight, 3)] for arc in arcs] for arcs in self.maps.arcs]
            data["looks"] = base64.b64encode(self.maps.looks.tobytes()).decode("ascii")
        return data


# What a mask is worth in words; nothing is claimed that was not measured or counted ------------------------------


#: What kept heads do, by the least agreement with the full model's predictions.
_HEADLINES = (
    (0.995, "do all the work"),
    (0.95, "do almost all the work"),
    (0.9, "do most of the work"),
    (0.0, "are too few"),
)
#: A wider interval in points says little, so it is shown beside "too close to call".
_WIDE_PP = 10.0
#: A smaller share rounds to 0 %.
_LEAST = 0.005


@dataclass(frozen=True)
class WeightCount:
    """The number of weights of a ``full`` model, and how many of them leave with each ``head`` that is removed."""

    full: int
    head: float

    @classmethod
    def of(cls, run: RunDocument) -> WeightCount | None:
        """Derive it from the counts of a run (None: they were not counted)."""
        full = run.cost.full.parameters
        pruned = run.cost.pruned.parameters
        mask = run.mask
        if full is None or pruned is None or mask.is_full:
            return None
        return cls(full, (full - pruned) / (mask.keep.size - mask.count))

    def ratio(self, mask: HeadMask) -> float:
        """Return the number of weights of the model cut to ``mask`` relative to the full model's."""
        return 1 - self.head * (mask.keep.size - mask.count) / self.full


@dataclass(frozen=True)
class Savings:
    """What pruning saves relative to the full model: ``cache`` and ``size`` are counted ratios, ``speed`` is timed.

    ``cache`` are the bytes of keys and values per token, ``size`` the number of weights (None: not known).
    """

    cache: float | None = None
    size: float | None = None
    speed: Speed | None = None


def describe_headline(mask: HeadMask, unit: str, outcomes: Outcomes | None) -> str:
    """Describe how much of the work the kept heads do, by their agreement with the full model (None: not measured)."""
    if mask.is_full:
        return f"All {mask.count} {unit}s"
    headline = f"{mask.count} of {mask.keep.size} {unit}s"
    agreement = (outcomes or {}).get("agreement")
    if agreement is None:
        return headline
    words = next(words for least, words in _HEADLINES if agreement.value >= least)
    return f"{headline} {words}"


def list_clauses(mask: HeadMask, outcomes: Outcomes | None, savings: Savings, *, answers: str) -> list[str]:
    """List what a mask changes: the accuracy, then what it saves. Without an accuracy, unchanged ``answers`` come last.

    The full model changes nothing.
    """
    if mask.is_full:
        return []
    measured = outcomes or {}
    clauses = []
    if "accuracy_change" in measured:
        clauses.append(describe_accuracy_change(measured["accuracy_change"]))
    clauses += _list_savings(savings)
    if "accuracy_change" not in measured and "agreement" in measured:
        clauses.append(f"{percent(measured['agreement'].value, 0)} of {answers} unchanged")
    return clauses


def describe_accuracy_change(points: Estimate) -> str:
    """Describe a change in accuracy, in points; where its interval contains 0, it is too close to call."""
    if points.excludes(0):
        direction = "less"
        if points.value > 0:
            direction = "more"
        return f"{number(abs(points.value))} points {direction} accurate"
    words = f"accuracy {too_close(points.n)}"
    if points.high - points.low > _WIDE_PP:
        words += f" (within {span(points.low, points.high, 0)} points)"
    return words


def _list_savings(savings: Savings) -> list[str]:
    clauses = []
    if savings.cache is not None and 1 - savings.cache >= _LEAST:
        clauses.append(f"{percent(1 - savings.cache, 0)} less memory per token")
    speed = savings.speed
    if speed is not None and not speed.busy and speed.ratio.excludes(1):
        direction = "faster"
        if speed.ratio.value > 1:
            direction = "slower"
        clauses.append(f"{percent(abs(1 - speed.ratio.value), 0)} {direction}")
    if savings.size is not None and 1 - savings.size >= _LEAST:
        clauses.append(f"{percent(1 - savings.size, 0)} smaller")
    return clauses


_CORE = Path(__file__).parent / "core"
#: The files of the script, each after those that it imports.
_FILES = (
    "elements.js",
    "figures.js",
    "gains.js",
    "heads.js",
    "curves.js",
    "strip.js",
    "arcs.js",
    "sentence.js",
    "board.js",
)


@dataclass(frozen=True)
class Event:
    """A person's action.

    The slider was released at ``budget``, ``head`` was toggled or asked about, ``name`` was chosen as the colouring,
    the last change was undone, or the suggested budget was asked for.
    """

    kind: Literal["budget", "toggle", "ask", "colour", "undo", "suggested"]
    budget: int = 0
    head: int = 0
    name: str = ""

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Event:
        """Read an event of the board's script."""
        numbers = {name: int(message.get(name, 0)) for name in ("budget", "head")}
        return cls(message["kind"], **numbers, name=str(message.get("name", "")))


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
    which is shown in place of the time (None: another model). ``weights`` are counted (None: they were not).
    Intervals are over ``units``, and an outcome is a mean over every ``answer``: a text, or a token.
    """

    unit: str = "head"
    chance: float | None = None
    cache: CacheShape | None = None
    weights: WeightCount | None = None
    units: str = "texts"
    answer: str = "text"

    @classmethod
    def of(cls, run: RunDocument) -> BoardSubject:
        """Return what the board of a finished run is about."""
        chance = run.data.eval.most_frequent
        subject = cls(run.model.unit, chance, run.cache_shape, WeightCount.of(run))
        if run.protocol is None:
            return subject
        return replace(subject, units=run.protocol.units, answer="token")


@dataclass(frozen=True)
class Steps:
    """Ways back that a board offers: whether there is a change to ``undo``, and the ``suggested`` budget.

    None: no budget is suggested, or it is on the board.
    """

    undo: bool = False
    suggested: int | None = None


@dataclass(frozen=True, eq=False)
class FirstScreen:
    """What the first screen shows in place of many figures.

    ``values`` are the clauses of what the mask costs and saves, then those of all budgets; ``answers`` is what
    predictions are called there. ``sentence`` is a person's text (None: it is not on the board). ``colouring`` is the
    one that the board opens with (empty: clusters).
    """

    values: Sequence[str]
    answers: str = "answers"
    sentence: Sentence | None = None
    colouring: str = ""


@dataclass(frozen=True, eq=False)
class Host:
    """What the host of a board asks for and adds.

    ``selected`` is the head that was asked about, ``status`` tells why a figure is not measured yet. Alone, without a
    host that measures, the data contain the clusters and replacement heads of every budget, about ``7 N B`` bytes for
    ``N`` heads and ``B`` budgets. ``titles`` are the finding of the mask, then those of all budgets, which the host's
    heading shows. ``colourings`` are those beside clusters. ``steps`` are ways back (None: the host offers its own).
    With ``cards``, the host has a card of each head.
    ``details`` tells whether figures and curves are open at first (None: they cannot be closed). ``first`` is given
    on the first screen only.
    """

    selected: int | None = None
    status: str = ""
    alone: bool = False
    titles: Sequence[str] = ()
    colourings: Sequence[Coloured[Any]] = ()
    steps: Steps | None = None
    cards: bool = False
    details: bool | None = None
    first: FirstScreen | None = None


def contents(
    table: BudgetTable,
    clusters: HeadClusters,
    shown: Shown,
    *,
    labels: Ints,
    subject: BoardSubject = BoardSubject(),
    host: Host = Host(),
    other: BudgetTable | None = None,
) -> dict[str, Any]:
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
    masks = [selection.mask for selection in table.selections]
    recovery = RECOVERIES[table.recover]
    measured_rows = table.rows()
    rows = [
        {**_figures(row), "rescued": list(selection.rescued)}
        for row, selection in zip(measured_rows, table.selections, strict=True)
    ]
    current = {
        **_describe_current(table, measured_rows, shown),
        "budget": mask.count,
        "kept": _packed(mask),
        "origin": shown.origin,
        "note": shown.note,
        "rescued": list(shown.rescued),
        "covers": clusters.covers(mask, labels).tolist(),
    }
    entries = [current, *rows]
    measured = {name for entry in entries for name in entry["values"]}
    clustering = clusters.clustering
    data: dict[str, Any] = {
        "layers": clusters.layers,
        "heads": clusters.heads,
        "ks": clustering.ks.tolist(),
        "mss": [round(float(value), 4) for value in clustering.mss],
        "knee": clustering.knee,
        "labels": labels.tolist(),
        "tints": clusters.tints.tolist(),
        "names": name_clusters(labels, clusters.families),
        "budgets": list(table.budgets),
        # An outcome that no budget has is absent; before the first measurement all are expected.
        "outcomes": [
            _describe_outcome(row, table.full or {}, subject)
            for row in HEADLINES
            if row.name in measured or not measured
        ],
        "per": subject.answer,
        "units": subject.units,
        "recovered": recovery.noun,
        "trained": recovery.trains,
        "unmeasured": "",
        "unit": subject.unit,
        "colours": COLOURS,
        "inks": [contrast(colour) for colour in COLOURS],
        "striped": STRIPED,
        "colourings": paint(host.colourings, mask),
        "kept": [_packed(own) for own in masks],
        "rows": rows,
        "status": host.status,
        "selected": host.selected,
        "cards": host.cards,
        "current": current,
    }
    if not recovery.swept:
        data["unmeasured"] = f"not {recovery.result} yet"
    for entry, title in zip(entries, host.titles, strict=False):
        entry["title"] = title
    if other is not None:
        words = RECOVERIES[other.recover].beside
        for entry, row in zip(rows, other.rows()[:-1], strict=False):
            if row.outcomes is not None:
                entry |= _beside(words, row.outcomes)
                data["other"] = words
    if subject.cache is not None:
        data["cache"] = subject.cache.per_token(HeadMask.full(clusters.layers, clusters.heads))
        for entry, own in zip(entries, (mask, *masks), strict=True):
            entry["cache"] = subject.cache.per_token(own)
    if shown.places is not None:
        data["places"] = list(shown.places)
    if shown.pinned is not None:
        data["pinned"] = _packed(shown.pinned)
    if host.steps is not None:
        data["steps"] = vars(host.steps)
    if host.details is not None:
        data["details"] = host.details
    if host.first is not None:
        data["first"] = {"answers": host.first.answers, "colouring": host.first.colouring}
        if host.first.sentence is not None:
            data["first"]["sentence"] = host.first.sentence.as_data()
        for entry, own, value in zip(entries, (mask, *masks), host.first.values, strict=True):
            entry["value"] = value
            if subject.weights is not None:
                entry["size"] = _short(subject.weights.ratio(own))
    if host.alone:
        data["readings"] = _list_readings(table, clusters)
    if host.selected is not None and host.selected < labels.size:
        distances = clusters.distances
        data["asked"] = {
            "distance": float(distances[host.selected, current["covers"][host.selected]]),
            "median": float(np.median(distances[np.triu_indices(len(distances), 1)])),
        }
    return data


def _describe_current(table: BudgetTable, rows: Sequence[Row], shown: Shown) -> dict[str, Any]:
    """Return the figures of the mask on the board, with the estimates of its budget that serve it."""
    mask = shown.mask
    budget = next((row for row in rows if row.budget == mask.count), Row(mask.count, {}, None, None, None))
    # Time hardly depends on which heads are pruned, so the budget's estimate serves a person's own mask, too. Answers
    # do, so their estimates serve the budget's own mask alone.
    values: Mapping[str, float] = {}
    if table.has(mask):
        values = budget.values
    row = Row(mask.count, values, shown.outcomes, budget.ratio, shown.speed, shown.glimpse)
    current = _figures(row)
    near = table.nearest_measured(mask.count)
    if near is not None and not (values or row.outcomes or row.glimpse):
        current |= {"values": {name: [_short(value)] for name, value in near.values.items()}, "about": near.budget}
    if shown.how:
        current["how"] = shown.how
    if shown.beside is not None:
        current |= _beside(*shown.beside)
    if shown.method:
        current["method"] = shown.method
    return current


def _list_readings(table: BudgetTable, clusters: HeadClusters) -> list[dict[str, Any]]:
    """Return the clusters of each budget, their names and replacement heads."""
    readings = []
    for selection in table.selections:
        k = selection.k
        if k is None:
            k = selection.mask.count
        groups, _ = clusters.groups(k)
        readings.append(
            {
                "labels": _base64(groups.astype("<u2")),
                "names": name_clusters(groups, clusters.families),
                "covers": _base64(clusters.covers(selection.mask, groups).astype("<u2")),
            }
        )
    return readings


def _describe_outcome(row: Outcome, full: Outcomes, subject: BoardSubject) -> dict[str, Any]:
    """Return an outcome for the script, with that of the ``full`` model and the baseline of the labels."""
    value = None
    n = None
    if row.name in full:
        value = full[row.name].value
        n = full[row.name].n
    # The majority-class baseline answers labels.
    chance = _short(subject.chance) if row.needs == "labels" else None
    return {"name": row.name, "label": row.label, "unit": row.unit, "full": value, "n": n, "chance": chance}


def _beside(words: str, outcomes: Outcomes) -> dict[str, dict[str, Any]]:
    """Return the value of each outcome of another recovery, which ``words`` name, and a line that states it."""
    values = {}
    lines = {}
    for name, estimate in outcomes.items():
        values[name] = _short(estimate.value)
        lines[name] = f"{words} {estimate.text}"
        if estimate.ci95:
            lines[name] += f" ({estimate.span})"
    return {"other": values, "beside": lines}


def _packed(mask: HeadMask) -> str:
    return _base64(np.packbits(mask.keep.ravel()))


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _figures(row: Row) -> dict[str, Any]:
    """Return a row for the script; ``values`` have value, low, high and n of each outcome, or an estimated value."""
    outcomes = row.outcomes or {}
    speed = row.speed
    values: dict[str, list[float | None]] = {name: [_short(value)] for name, value in row.values.items()}
    for head in HEADLINES:
        estimate = (row.outcomes or row.glimpse or {}).get(head.name)
        if estimate is not None:
            values[head.name] = [estimate.value]
            if estimate.ci95 is not None:
                values[head.name] += [_short(estimate.low), _short(estimate.high), estimate.n]
    figures: dict[str, Any] = {"values": values, "ratio": _short(row.ratio)}
    if row.glimpse is not None and row.outcomes is None:
        figures["glimpsed"] = max(estimate.n for estimate in row.glimpse.values())
    change = outcomes.get("accuracy_change")
    if change is not None:
        figures |= {"pp": _short(change.value), "ppLow": _short(change.low), "ppHigh": _short(change.high)}
        figures["others"] = [
            f"{head.label} {outcomes[name].text}"
            for name, head in OUTCOMES.items()
            if name in outcomes and not head.headline and outcomes[name] is not change
        ]
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


#: Elements of a page, and arcs over words: what more than the board draws.
SHARED = (_CORE / "elements.js", _CORE / "arcs.js")


def join_scripts(files: Iterable[Path]) -> str:
    """Join ``files``, each after those that it imports, to one script without imports and named exports."""
    script = "\n".join(file.read_text(encoding="utf-8") for file in files)
    return re.sub(r"^import .*\n|^export (?=const|function|class)", "", script, flags=re.MULTILINE)
