"""The measure of anatomy: what each head's output is made of, and who covers for the head when it is removed.

Five parts of a head's output add up to 1: a constant; what only the words tell, what both the words and the other heads
of its layer tell, and what only the other heads tell (a commonality analysis); and its own, which none of them tells. A
share of the output is not a cost: four costs say what its removal changes with nothing in its place, its mean, a linear
function of the words, and one of the words and the other heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cahp.figures import LEGEND, draw, head_name, places, ticks
from cahp.models import ModelCard
from cahp.outcomes import estimate_mean
from cahp.run import Bench, MaskSubject, Measure, Recovered
from cahp.show import Blocks, Cell, Figure, Line, Marks, Table, Text
from cahp.store import key
from cahp.tasks import find_source
from cahp.values import Estimate, JsonObject, spread
from cahp.words import counted, nats, percent

#: The parts of a head's output, with their words and colours (Okabe and Ito 2008).
PARTS = {
    "constant": ("constant", "#009E73"),
    "words": ("words alone", "#0072B2"),
    "either": ("words or heads", "#56B4E9"),
    "heads": ("heads alone", "#E69F00"),
    "own": ("own", "#D55E00"),
}
#: What takes the place of a removed head, in words.
IN_PLACE = {
    "zero": "nothing",
    "mean": "its mean",
    "words": "a linear function of the words",
    "both": "one of the words and the other heads",
}
#: A removal that costs less is none that anything has to cover for, in nats per prediction.
NEGLIGIBLE = 0.001
#: Who covers for a head: a sign, words, and a colour.
_COVERS = (
    ("c", "its mean, as it is a bias", PARTS["constant"][1]),
    ("w", "the words", PARTS["words"][1]),
    ("h", "the other heads of its layer", PARTS["heads"][1]),
    ("o", "neither", PARTS["own"][1]),
    ("", "its removal hardly costs anything", "#8A939B"),
)


@dataclass(frozen=True)
class AnatomyOptions:
    """How many evaluation items are read without each head."""

    items: int = field(
        default=0,
        metadata={"help": "Evaluation texts, or windows of a language model, to measure on (0: 256 texts, 4 windows)."},
    )


@dataclass(frozen=True)
class HeadAnatomy:
    """The parts of a head's output, which add up to 1, and the costs of its removal in nats per prediction.

    ``token``, ``neighbours`` and ``means`` divide ``words`` and ``either``: what the token itself tells, then those
    beside it, then running means. ``costs`` are KL divergences from the full model, by what takes the head's place.
    """

    constant: float
    words: float
    either: float
    heads: float
    own: float
    token: float
    neighbours: float
    means: float
    costs: Mapping[str, Estimate]

    @property
    def cover(self) -> int:
        """Who covers for it, as an index into ``_COVERS``: what takes most of the cost away."""
        zero, mean, words, both = (self.costs[name].value for name in IN_PLACE)
        if zero < NEGLIGIBLE:
            return len(_COVERS) - 1
        return int(np.argmax([zero - mean, mean - words, words - both, both]))


@dataclass(frozen=True)
class Anatomy:
    """The anatomy of all heads in order, of ``layers`` and ``heads`` a layer.

    Regressions are solved on ``learned`` tokens; shares are those of ``held_out`` ones.
    """

    layers: int
    heads: int
    learned: int
    held_out: int
    rows: tuple[HeadAnatomy, ...]

    def list_costs(self, name: str) -> list[float]:
        """Return a cost of each head."""
        return [row.costs[name].value for row in self.rows]


def divide_output(left: Mapping[str, float]) -> dict[str, float]:
    """Return the shares of a head's output from the energy that each predictor has ``left`` of it on held-out tokens.

    Noise may leave more to a predictor than to one that knows less: it then explains nothing more. Where words and
    heads together explain more than the sum of both, nothing is what either explains, and their own parts share it.
    """
    whole = left["zero"]
    if whole <= 0:
        # It writes nothing.
        return dict.fromkeys((*PARTS, "token", "neighbours", "means"), 0.0) | {"constant": 1.0}
    mean, token, neighbours, words = np.minimum.accumulate(
        [min(1.0, left[name] / whole) for name in ("mean", "token", "neighbours", "words")]
    ).tolist()
    heads = min(mean, left["heads"] / whole)
    both = min(words, heads, left["both"] / whole)
    alone = [heads - both, max(0.0, mean - words - heads + both), words - both]
    scale = (mean - both) / (sum(alone) or 1.0)
    shares = dict(zip(("words", "either", "heads"), (scale * part for part in alone), strict=True))
    of_words = (shares["words"] + shares["either"]) / ((mean - words) or 1.0)
    return {
        "constant": 1 - mean,
        **shares,
        "own": both,
        "token": of_words * (mean - token),
        "neighbours": of_words * (token - neighbours),
        "means": of_words * (neighbours - words),
    }


def measure_anatomy(bench: Bench, items: int = 0, *, measure: bool = True) -> Anatomy | None:
    """Return the anatomy of the full model's heads from the store, or ``measure`` and store it (None: not there)."""
    most, usual = bench.card.task.probed
    items = items or usual

    def make() -> Anatomy:
        # What is read twice is no text of the data: it would be another mean, and other words.
        texts = [item for item in bench.recoveries.inputs if find_source(item) == "text"]
        learned = [texts[row] for row in spread(len(texts), most)]
        dissected = bench.measurements.dissect(learned, bench.evaluation.sample(items))
        _, layers, heads = np.shape([*dissected.energies.values()])
        rows = []
        for place in np.ndindex(layers, heads):
            shares = divide_output({name: float(left[place]) for name, left in dissected.energies.items()})
            costs = {}
            for name, divergences in dissected.divergences.items():
                costs[name] = estimate_mean(divergences[place], bench.settings.seed, units=dissected.units)
            rows.append(HeadAnatomy(**shares, costs=costs))
        return Anatomy(layers, heads, dissected.learned, dissected.held_out, tuple(rows))

    digests = bench.card.sha256, bench.recoveries.inputs_sha256, bench.evaluation.sha256
    name = key("anatomy", 1, *digests, items, asdict(bench.resources.precisions), bench.settings.seed)
    if measure:
        return bench.resources.find_record(name, Anatomy, make)
    return bench.resources.find_record(name, Anatomy)


# In words and figures ------------------------------------------------------------------------------------------


def describe_cover(row: HeadAnatomy, head: int, heads: int, unit: str) -> str:
    """Describe what the removal of a head costs, and who covers for it."""
    layer, place = divmod(head, heads)
    costs = {name: nats(estimate.value) for name, estimate in row.costs.items()}
    removal = f"Removing {unit} {place} of layer {layer} costs {costs['zero']} nats"
    return (
        f"{removal}; with its mean in its place {costs['mean']}: it is a bias",
        f"{removal}, and {costs['mean']} with its mean in its place; with a linear function of the words "
        f"{costs['words']}: the words cover for it",
        f"{removal}, and {costs['words']} with a linear function of the words in its place; with the other {unit}s of "
        f"its layer as well {costs['both']}: they cover for it",
        f"{removal}; {costs['both']} are lost whatever takes its place: neither the words nor the other {unit}s of its "
        "layer cover for it",
        f"{removal}: it hardly matters",
    )[row.cover]


def mark_cover(record: Anatomy) -> Marks:
    """Return who covers for each head as marks of a board."""
    groups = np.array([row.cover for row in record.rows], dtype=np.int64)
    signs, words, colours = zip(*_COVERS, strict=True)
    legend = "What takes away most of the cost of removing a head, in its place"
    shape = record.layers, record.heads
    return Marks("anatomy", "who covers for it", groups.reshape(shape), signs, words, legend, colours)


def draw_parts(rows: Sequence[HeadAnatomy], names: Sequence[str], heads: int) -> Any:
    """Draw the parts of heads as stacked bars, layer by layer with so many ``heads`` each; one bar of a head alone."""
    numbers = list(range(len(rows)))
    amount = {"title": "share of the output (%)", "range": [0, 100], "fixedrange": True}
    layers = range(len(rows) // heads)
    x = ticks("layer", [(layer + 0.5) * heads - 0.5 for layer in layers], (-0.6, len(rows) - 0.4), [*layers])
    y: JsonObject = amount
    height = 320
    alone = len(rows) == 1
    if alone:
        x = amount
        y = {"visible": False}
        height = 130
    traces = []
    for part, (label, colour) in PARTS.items():
        shares = [100 * getattr(row, part) for row in rows]
        hover = [f"{name}<br>{label}: {share:.0f} %" for name, share in zip(names, shares, strict=True)]
        trace: JsonObject = {"type": "bar", "x": numbers, "y": shares}
        if alone:
            trace |= {"orientation": "h", "x": shares, "y": numbers}
        look = {"name": label, "marker": {"color": colour}, "hovertext": hover, "hoverinfo": "text"}
        traces.append({**trace, **look})
    return draw(
        traces, x=x, y=y, height=height, legend={**LEGEND, "traceorder": "normal"}, barmode="stack", bargap=0.15
    )


def table_of_costs(row: HeadAnatomy) -> Table:
    """Return the costs of removing a head, by what takes its place."""
    first = row.costs["zero"]
    title = f"Cost of its removal in nats per prediction, with 95 % intervals (n = {first.n:,})"
    rows: list[list[Cell]] = [[words, row.costs[name]] for name, words in IN_PLACE.items()]
    return Table(title, ["in its place", "KL divergence"], rows, name="head-costs")


class AnatomyOfHeads(Measure[Anatomy]):
    """What each head writes, and what its removal costs, whatever mask is on the board."""

    name = "anatomy"
    title = "Who covers for a removed head?"
    help = (
        "Measure what each head's output is made of, and four costs of removing it.\n\nEach head is removed alone, "
        "with nothing in its place, with its mean, with a linear function of the words (the token, its neighbours, "
        "running means), and with one of the words and the other heads of its layer."
    )
    example = "cahp anatomy smollm2"
    record = Anatomy
    options = AnatomyOptions
    of_mask = False

    def refuses(self, card: ModelCard) -> str | None:
        """Refuse models whose layers do not follow one another."""
        return card.no_refit

    def tokens(self, bench: Bench, options: AnatomyOptions) -> float:
        """Return the tokens of all removals, of half of the layers on average, and of the regressions."""
        texts = bench.evaluation
        most, usual = bench.card.task.probed
        share = min(1.0, (options.items or usual) / texts.count)
        removals = len(IN_PLACE) * bench.card.total
        learned = min(bench.growth, most / len(bench.calibration)) * bench.calibration.tokens
        return 2.5 * learned + 0.6 * removals * share * texts.tokens

    def run(self, bench: Bench, mask: Any, recovered: Recovered | None, options: AnatomyOptions) -> Anatomy:
        """Measure it; see ``measure_anatomy``."""
        record = measure_anatomy(bench, options.items)
        assert record is not None
        return record

    def stored(self, bench: Bench) -> Anatomy | None:
        """Return what was measured before with the usual options, or ships with the package."""
        return measure_anatomy(bench, measure=False)

    def show(self, record: Anatomy, subject: MaskSubject) -> Blocks:
        """Yield who covers for heads on the whole, then the parts and costs of each head."""
        unit = subject.unit
        rows = record.rows
        zero, mean, words, both = (sum(record.list_costs(name)) for name in IN_PLACE)
        saved = [percent(part / (zero or 1.0), 0) for part in (zero - mean, mean - words, words - both, both)]
        yield Line(
            f"Of what it costs to remove each of {counted(len(rows), unit)} alone, its mean takes {saved[0]} away, a "
            f"linear function of the words {saved[1]} more, and the other {unit}s of its layer {saved[2]} more; "
            f"{saved[3]} is lost"
        )
        order = np.argsort([-cost for cost in record.list_costs("both")], kind="stable").tolist()
        costliest = int(np.argmax(record.list_costs("zero")))
        yield Line(describe_cover(rows[costliest], costliest, record.heads, unit))
        shares = {part: float(np.mean([getattr(row, part) for row in rows])) for part in PARTS}
        yield Text(
            f"Of the output of a {unit}, on average {percent(shares['constant'], 0)} is a constant, "
            f"{percent(shares['words'], 0)} follows from the words alone, {percent(shares['either'], 0)} from the "
            f"words or the other {unit}s of its layer, {percent(shares['heads'], 0)} from these alone, and "
            f"{percent(shares['own'], 0)} is its own. Regressions are solved on {record.learned:,} calibration tokens, "
            f"shares and costs measured on {record.held_out:,} evaluation tokens."
        )
        yield mark_cover(record)
        names = [head_name(head, record.heads, unit) for head in range(len(rows))]
        columns = {part: [round(getattr(row, part), 4) for row in rows] for part in PARTS}
        yield Figure(
            f"What the output of each {unit} is made of",
            lambda _: draw_parts(rows, names, record.heads),
            f"A bar is a {unit}; its parts are shares of the squared length of what it writes, on held-out tokens. A "
            "share is not a cost.",
            {**places(record.layers, record.heads), **columns},
            "anatomy",
        )
        table: list[list[Cell]] = []
        for head in order:
            row = rows[head]
            shown = [percent(getattr(row, part), 0) for part in PARTS]
            table.append([names[head], *(row.costs[name] for name in IN_PLACE), *shown])
        yield Table(
            f"Cost of removing one {unit} in nats per prediction, with more and more in its place, and parts of its "
            "output; what costs most with all in its place comes first",
            [unit, "nothing", "mean", "words", "and heads", *(label for label, _ in PARTS.values())],
            table,
            name="anatomy-heads",
            closed=True,
        )


ANATOMY = AnatomyOfHeads()
