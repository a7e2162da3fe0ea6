"""The speed of this package as one table, with limits.

Each row is measured on this machine, ratios side by side. ``ROWS`` holds the limits; some rows have none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch

from cahp.files import scratch
from cahp.head_statistics import Space
from cahp.models import devices
from cahp.models.head_model import HeadModel
from cahp.models.selftest import verify
from cahp.models.surgery import cut
from cahp.run.bench import Bench, open_bench
from cahp.run.document import machine
from cahp.run.prune import measure_run as run_on
from cahp.run.settings import Settings
from cahp.run.shared_prefixes import SharedPrefixes
from cahp.stages.clustering import cluster, cluster_counts
from cahp.stages.evaluation import evaluate
from cahp.store import Store
from cahp.studies import benchmark
from cahp.studies.budget_sweep import BudgetTable, coarse_to_fine
from cahp.studies.filling import fill
from cahp.studies.head_clusters import HeadClusters
from cahp.values import HeadMask, Progress, silent
from cahp.words import number, size_of

Unit = Literal["times", "share", "seconds", "bytes"]
#: The whole run that shares are of.
CALIBRATION, EVALUATION = 200, 64
#: Numbers of heads at which clustering is timed, and the seconds that it may take.
CLUSTERED = {384: 10.0, 1024: 2.0, 2048: 8.0}
#: Texts and masks on which evaluation with shared layers is compared with evaluation one by one.
_SHARED_TEXTS, _SHARED_MASKS = 32, 72
#: Number of budgets that show the shape of the curve.
_FIRST = 9


@dataclass(frozen=True)
class Limit:
    """One line of the table: what is measured, and what it may be at most, or at least (None: no limit is set)."""

    name: str
    words: str
    unit: Unit
    limit: float | None = None
    side: Literal["most", "least"] = "most"
    #: The model whose limit it is, where it is not everyone's.
    model: str | None = None

    def kept(self, value: float | None, model: str) -> bool | None:
        """Whether the limit is kept (None: there is none for this model, or nothing was measured)."""
        if value is None or self.limit is None or self.model not in (None, model):
            return None
        return value <= self.limit if self.side == "most" else value >= self.limit


def _numbers(heads: int) -> str:
    numbers = len(cluster_counts(heads))
    return "every number" if numbers == heads - 2 else f"{numbers} numbers"


ROWS = (
    Limit("signatures_to_forward", "signatures, against a forward pass", "times", 1.05),
    Limit("naive_to_selection", "speed-up over the naive selection", "times", 5.0, "least"),
    *(
        Limit(f"clustering_{heads}", f"clustering {heads:,} heads, {_numbers(heads)} of clusters", "seconds", seconds)
        for heads, seconds in CLUSTERED.items()
    ),
    Limit("self_test", f"self-test, share of a run of {CALIBRATION} + {EVALUATION} texts", "share", 0.10),
    Limit("timing", "timing of both models, share of that run", "share"),
    Limit("sweep_to_evaluations", "many masks together, against one by one", "times", 0.75),
    Limit("first_nine_glimpsed", "first nine budgets on a third of the texts", "seconds", 8.0, model="minilm-bbc"),
    Limit("first_nine", "first nine budgets on all texts", "seconds", 8.0, model="minilm-bbc"),
    Limit("peak_memory", "peak memory", "bytes"),
)


def measure(settings: Settings, *, limit: int = 640, rounds: int = 3, progress: Progress = silent) -> dict[str, Any]:
    """What ``cahp.studies.benchmark`` measures, and the ``rows`` of the table with their values.

    ``settings`` name model, data and device; the whole run keeps nothing in the user's cache.
    """
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with scratch() as folder:
        store = Store(folder)
        bench = open_bench(replace(settings, limit=CALIBRATION, eval_limit=EVALUATION), store=store)
        devices.reset_peak(devices.find_device(settings.device))
        start = perf_counter()
        run_on(bench)
        whole = perf_counter() - start
        model = bench.model
        proof = float(np.median([_seconds(model, verify) for _ in range(rounds)]))
        shared = _sharing(bench, progress)
        glimpsed, nine = _first_nine(settings, bench, store)
    found = benchmark.measure(settings, model=model, limit=limit, rounds=rounds, progress=progress)
    values = {
        **found["ratios"],
        **{f"clustering_{heads}": _clustering(heads) for heads in CLUSTERED},
        "self_test": proof / whole,
        "timing": bench.resources.timings.get("latency", 0.0) / whole,
        "sweep_to_evaluations": shared,
        "first_nine_glimpsed": glimpsed,
        "first_nine": nine,
        "peak_memory": found["peak_memory"],
    }
    rows = [
        {**asdict(row), "value": values[row.name], "kept": row.kept(values[row.name], model.card.id)} for row in ROWS
    ]
    return {
        **found,
        "rows": rows,
        "whole_run_s": whole,
        "self_test_s": proof,
        "device": _named(model.device),
        "load": busy,
    }


def _named(where: torch.device) -> str:
    return torch.cuda.get_device_name(where) if where.type == "cuda" else machine()


def _seconds(model: HeadModel, work: Any) -> float:
    devices.synchronise(model.device)
    start = perf_counter()
    work(model)
    devices.synchronise(model.device)
    return perf_counter() - start


def _masks(bench: Bench) -> list[HeadMask]:
    """Masks of budgets all over the range, in the order in which a table measures them."""
    table = BudgetTable.plan(HeadClusters.of(bench.evidence), bench.settings)
    masks = {one.mask.count: one.mask for one in table.selections if not one.mask.empty_layers}
    budgets = sorted(masks)
    spread = [budgets[at] for at in np.unique(np.linspace(0, len(budgets) - 1, _SHARED_MASKS).round().astype(int))]
    return [masks[budget] for budget in coarse_to_fine(spread)]


def _sharing(bench: Bench, progress: Progress) -> float | None:
    """Time of answers under many masks with shared first layers, over that of each alone (None: nothing is shared)."""
    model, masks = bench.model, _masks(bench)
    if not model.has_tails:
        return None
    texts = bench.evaluation.take(range(min(_SHARED_TEXTS, len(bench.evaluation))))
    prefixes = SharedPrefixes(model, texts, masks)
    together = alone = 0.0
    for done, mask in enumerate(masks):
        progress("table", done, len(masks))
        together += _seconds(model, lambda _, mask=mask: prefixes.evaluate(mask))
        alone += _seconds(model, lambda whole, mask=mask: evaluate(cut(whole, mask), texts))
    progress("table", len(masks), len(masks))
    return together / alone


def _first_nine(settings: Settings, bench: Bench, store: Store) -> tuple[float | None, float | None]:
    """Seconds until the table has a figure of nine budgets' own, and until it knows them; the model is there.

    The first figures are from a part of the usual evaluation texts, or from all where those are few.
    """
    own = open_bench(replace(settings, limit=CALIBRATION), store=store, model=bench.model)
    table = BudgetTable.plan(HeadClusters.of(own.evidence), own.settings)
    if len(table.budgets) < _FIRST:
        return None, None
    filling = fill(table, own)
    glimpsed = None
    start = perf_counter()
    while table.measured()[0] < _FIRST:
        next(filling)
        if glimpsed is None and sum(bool(row.outcomes or row.glimpse) for row in table.rows()) >= _FIRST:
            glimpsed = perf_counter() - start
    seconds = perf_counter() - start
    filling.close()
    return glimpsed, seconds


def _clustering(heads: int) -> float:
    """Seconds of clustering so many heads that lie as heads do: a few dozen groups, and some between them."""
    generator = np.random.default_rng(0)
    centres = generator.normal(scale=20, size=(max(2, heads // 12), 2))
    points = (centres[generator.integers(len(centres), size=heads)] + generator.normal(size=(heads, 2))).astype(
        np.float32
    )
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1).astype(np.float32)
    start = perf_counter()
    cluster(Space(points, points, distances, "none"))
    return perf_counter() - start


def words(found: Mapping[str, Any]) -> Iterator[str]:
    """A benchmark as a person reads it."""
    first, *times, last = benchmark.words(found)
    yield first
    load = "" if found["load"] is None else f"; load {number(found['load'], 2)} before"
    yield f"on {found['device']}{load}"
    yield from times
    yield ""
    wide = max(len(row["words"]) for row in found["rows"])
    yield f"  {'':<{wide}}  {'measured':>9}   limit"
    for row in found["rows"]:
        yield f"  {row['words']:<{wide}}  {_written(row['value'], row['unit']):>9}   {_limit(row)}".rstrip()
    yield last


def _limit(row: Mapping[str, Any]) -> str:
    if row["kept"] is None:
        return ""
    return f"at {row['side']} {_written(row['limit'], row['unit'])}{'' if row['kept'] else ', missed'}"


def _written(value: float | None, unit: Unit) -> str:
    if value is None:
        return "-"
    if unit == "bytes":
        return size_of(int(value))
    if unit == "share":
        return f"{number(100 * value)} %"
    return f"{number(value, 2)} {'x' if unit == 'times' else 's'}"


#: Between these a file holds the last table.
MARKS = ("<!-- bench -->", "<!-- /bench -->")


def placed(text: str, lines: Sequence[str]) -> str | None:
    """``text`` with the table in the place of the one between its marks (None: it has no marks)."""
    before, opened, rest = text.partition(MARKS[0])
    _, closed, after = rest.partition(MARKS[1])
    if not opened or not closed:
        return None
    return "\n".join([f"{before}{MARKS[0]}", "```", *lines, "```", f"{MARKS[1]}{after}"])
