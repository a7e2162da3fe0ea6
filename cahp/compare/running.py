"""Running a comparison: what is known is found, the rest is measured, here or elsewhere, and everything is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cahp import models, registry
from cahp.compare.engines import Here, engine, workers_of
from cahp.compare.plan import FULL, Cell, Plan, about
from cahp.compare.result import SCHEMA, Comparison
from cahp.compare.working import (
    Answers,
    ComparisonBench,
    Entries,
    Measured,
    Task,
    keep,
    known,
    measure,
    priced,
    seeds_alike,
    to_do,
    work,
)
from cahp.data import Dataset
from cahp.registry import Evidence
from cahp.run.bench import label_reading, labelling
from cahp.run.measurements import Loader
from cahp.run.prune import split_document, versions
from cahp.run.seal import TestSeal
from cahp.store import Store, key
from cahp.values import CahpError, Cancelled, Evaluation, OptionError, Progress, silent

STAGE = "compare"
#: What a refit costs, in forward passes of the full model of each text it calibrates on, and of each it is judged by.
_REFIT, _JUDGED = 3.7, 2.0
#: Three epochs of a forward and a backward pass of four fifths of the texts, and a look at the rest after each.
_FINETUNE = 3 * (3 * 0.8 + 0.2)


@dataclass(frozen=True)
class Estimate:
    """What a comparison will cost.

    ``cells`` of them ``known`` already; ``forwards`` passes of one text through the full model that the others take
    (None from a method that does not say counts as none), of which ``choosing`` are the methods' own; ``minutes``, from
    a measured pass of ``forward_ms``.
    """

    cells: int
    known: int
    forwards: float
    choosing: float
    forward_ms: float
    minutes: float

    def as_json(self) -> dict[str, Any]:
        """As a comparison file holds it."""
        return dict(vars(self))


def compare(
    plan: Plan,
    *,
    store: Store | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    command: str = "",
    progress: Progress = silent,
    announce: Callable[[Estimate], None] = lambda _: None,
    load: Loader = models.load,
    dataset: Dataset | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Comparison:
    """Measure every method at every budget with every seed, under one protocol.

    Heads are chosen from the selection split alone. Of a method that has settings, validation chooses one if
    ``plan.tries`` says so, with as many tries for every such method, and on texts that do not judge. The test split is
    opened only if the plan's settings report on it, and after the choice of each mask. ``progress`` counts forward
    passes and may raise ``Cancelled``; what was measured by then is kept. ``jobs`` processes share the cells, or a
    ``cluster`` does. ``load`` reads the model in this process; a ``dataset`` as it was read, its
    labels not yet matched, may be given where no other process takes part.

    Raises:
        CahpError: If model, data and options cannot be used together, or no method could be measured.
    """
    start = clock()
    if jobs < 1:
        raise OptionError(f"--jobs {jobs} is impossible; give 1 or more")
    if dataset is not None and (jobs > 1 or cluster):
        raise OptionError("texts at hand stay in this process; use one job and no cluster")
    if plan.settings.report and not plan.settings.report == "test":
        raise OptionError(f"--report {plan.settings.report} is unknown; the only split to report on is test")
    store = store or Store()
    table = ComparisonBench(plan, store=store, load=load, dataset=dataset)
    card = table.card
    if "refit" in plan.recoveries and card.no_refit:
        raise OptionError(f"{card.no_refit}; use --recover finetune or none")
    cells = plan.cells(layers=card.layers, heads=card.heads)
    references = [Cell(FULL, card.layers * card.heads, seed, seed) for seed in plan.seeds]
    found: dict[Cell, Measured] = {}
    missing = _missing(table, (*references, *cells), found)
    opened = _opened(table, bool(missing))
    estimate = Estimate(len(cells), len(cells), 0.0, 0.0, 0.0, 0.0)
    if missing:
        with engine(jobs=jobs, cluster=cluster) as executor:
            # The first one is the full model's: it also tells how long a forward pass takes.
            first = replace(references[0], recovered=False)
            pace = known(table, first) or next(_run(table, [first], executor, cluster))
            missing = _missing(table, missing, found)
            forwards = _forwards(table, missing)
            workers = jobs if cluster is None else workers_of(executor)
            estimate = _estimate(cells, found, forwards, pace, workers=workers)
            announce(estimate)
            watch = _Watch(progress, estimate.forwards)
            if isinstance(executor, Here):
                table.prepare(watch.poll)
            watch.poll()
            for one in _run(table, missing, executor, cluster):
                found[one.cell] = one
                watch.done(sum(forwards[one.cell]))
    _check(found, cells, references)
    return _comparison(table, found, cells, references, estimate, opened, command, clock() - start)


def _missing(table: ComparisonBench, cells: Sequence[Cell], found: dict[Cell, Measured]) -> list[Cell]:
    """The cells that are not in the store; ``found`` gets those that are."""
    found |= {cell: one for cell in cells if (one := known(table, cell)) is not None}
    return [cell for cell in cells if cell not in found]


class _Watch:
    """Reports how many forward passes are done, and between batches lets the caller stop the work."""

    def __init__(self, progress: Progress, total: float) -> None:
        self._progress, self._total, self._done = progress, max(1, round(total)), 0.0

    def done(self, forwards: float) -> None:
        self._done += forwards
        self.poll()

    def poll(self, stage: str = STAGE, done: int = 0, total: int = 0) -> None:
        """Let the caller stop the work, whatever is under way."""
        self._progress(STAGE, min(round(self._done), self._total), self._total)


def _run(table: ComparisonBench, cells: Sequence[Cell], executor: Executor, cluster: str | None) -> Iterator[Measured]:
    """Measure cells and keep each as soon as it is done."""
    here = isinstance(executor, Here)
    # A store elsewhere is the worker's own.
    folder = table.store.folder.parent if cluster is None else None
    waiting = list(reversed(cells))
    running: set[Future[tuple[Measured, Entries]]] = set()
    while waiting or running:
        # In this process a cell is measured when it is submitted, so each is kept before the next begins.
        while waiting and not (here and running):
            cell = waiting.pop()
            running.add(
                executor.submit(measure, table, cell) if here else executor.submit(work, Task(table.plan, cell, folder))
            )
        ready, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            try:
                one, fresh = future.result()
            except (CahpError, Cancelled):
                raise
            except Exception as error:
                # A process pool, a cluster and the system each have a name for it.
                raise CahpError(
                    f"a worker failed ({type(error).__name__}: {error}), most often for want of memory; what was "
                    "measured is kept, so go on with fewer --jobs"
                ) from error
            keep(table.store, fresh)
            yield one


def _opened(table: ComparisonBench, missing: bool) -> int:
    """How often the test split was opened, this time included; a comparison that is taken up again counts once."""
    seal = TestSeal(table.card, table.dataset, table.store)
    if "report" not in table.splits:
        return seal.opened
    plan = table.plan
    name = key("compare-opened", 1, table.card.sha256, table.splits["report"].sha256, repr(plan))
    if not missing or table.store.load(name) is not None:
        return seal.opened
    count = seal.open()
    table.store.save(name, meta={"count": count})
    return count


# --- what it will take


def _forwards(table: ComparisonBench, cells: Sequence[Cell]) -> dict[Cell, tuple[float, float]]:
    """Forward passes that each cell takes to choose and to measure; what a method computes once a seed counts once."""
    seen: dict[tuple[str, int], float] = {}
    found = {}
    for cell in cells:
        to_choose, to_answer = to_do(table, cell)
        choosing = _choosing(table, cell) if to_choose else 0.0
        before = seen.get((cell.method, cell.seed), 0.0)
        # A dearer budget goes on from where a cheaper one stopped, as far as anybody can know beforehand.
        seen[cell.method, cell.seed] = max(before, choosing)
        select = len(table.bench(cell.seed).calibration)
        recoveries = {"none": 0.0, "refit": min(512, 0.8 * select) * _REFIT + 0.2 * select * _JUDGED}
        recoveries["finetune"] = _FINETUNE * select
        texts = [(recovery, sum(len(table.splits[split]) for split in splits)) for recovery, splits in to_answer]
        found[cell] = max(0.0, choosing - before), sum(count + recoveries[recovery] for recovery, count in texts)
    return found


def _choosing(table: ComparisonBench, cell: Cell) -> float:
    if cell.method == FULL:
        return 0.0
    try:
        price = priced(registry.get(cell.method), cast(Evidence, table.bench(cell.seed).workbench), cell.budget)
    except Exception:
        # An estimate fails nothing; the cell will say what is wrong.
        return 0.0
    return 0.0 if price is None else float(price.forwards) * table.plan.tries_used


def _estimate(
    cells: Sequence[Cell],
    found: dict[Cell, Measured],
    forwards: dict[Cell, tuple[float, float]],
    pace: Measured,
    *,
    workers: int,
) -> Estimate:
    one = pace.answers.get(("none", "eval"))
    if one is None:
        raise CahpError(f"the full model could not be measured ({pace.error}); try `cahp evaluate` first")
    each = one.seconds / len(one.evaluation)
    choosing = sum(first for first, _ in forwards.values())
    total = choosing + sum(second for _, second in forwards.values())
    return Estimate(
        cells=len(cells),
        known=sum(cell in found for cell in cells),
        forwards=total,
        choosing=choosing,
        forward_ms=each * 1000,
        minutes=total * each / 60 / workers,
    )


# --- what it says


def _check(found: dict[Cell, Measured], cells: Sequence[Cell], references: Sequence[Cell]) -> None:
    for cell in references:
        if found[cell].error:
            raise CahpError(f"the full model could not be measured ({found[cell].error}); try `cahp evaluate` first")
    if all(found[cell].error for cell in cells):
        raise CahpError(f"no method could be measured; the first says: {found[cells[0]].error}")


def _comparison(
    table: ComparisonBench,
    found: dict[Cell, Measured],
    cells: Sequence[Cell],
    references: Sequence[Cell],
    estimate: Estimate,
    opened: int,
    command: str,
    seconds: float,
) -> Comparison:
    plan, card, settings = table.plan, table.card, table.plan.settings
    rows = _Rows(table, found[references[0]])
    document = {
        "schema": SCHEMA,
        "model": {name: getattr(card, name) for name in ("id", "revision", "family", "layers", "heads", "sha256")},
        "data": {
            "id": table.dataset.id,
            "classes": list(table.dataset.classes),
            "select": [
                {"seed": seed, "split": settings.select_split, **split_document(table.bench(seed).calibration)}
                for seed in plan.seeds
            ],
            "eval": {"split": settings.eval_split, **split_document(table.splits["eval"])},
            "steer": table.tuning_texts and {"split": settings.eval_split, **split_document(table.tuning_texts)},
            "report": (
                "report" in table.splits and {"split": settings.report, **split_document(table.splits["report"])}
            )
            or None,
        },
        "settings": plan.as_json(),
        "methods": about(plan.methods),
        "full": [rows.cell(found[cell]) for cell in references],
        "cells": [rows.cell(found[cell]) for cell in cells],
        "estimate": estimate.as_json(),
        "timings": {"total_s": seconds},
        "test_opened": opened,
        "notices": _notices(table, found),
        "versions": versions(),
        "command": command,
    }
    return Comparison(document, rows.right)


def _notices(table: ComparisonBench, found: dict[Cell, Measured]) -> list[str]:
    plan = table.plan
    notices = list(dict.fromkeys(table.notices))
    full = next(one for one in found.values() if one.cell.method == FULL)
    notices += labelling(full.answers["none", "eval"].evaluation, label_reading(table.raw, table.dataset))
    if len(plan.seeds) > 1 and seeds_alike(table, plan.seeds):
        notices.append(
            f"{plan.settings.select_split} has no more texts than --limit, so every seed chooses on the same ones; a "
            "lower --limit shows how much the sample matters."
        )
    if plan.tries_used < plan.tries:
        notices.append(
            f"settings were chosen among {plan.tries_used}, not {plan.tries}: no method gets more tries than another."
        )
    if plan.recovered_draws is not None or plan.draws is not None:
        notices.append(
            f"of a method of chance at most {plan.draws or 'all its'} masks were drawn and "
            f"{plan.recovered_draws or 'all'} of them recovered, over all seeds."
        )
    few = [name for name in plan.methods if name in plan.few_seeds]
    if few and len(plan.seeds) > 1:
        notices.append(f"{', '.join(few)} take so long that they were measured with one seed alone.")
    failed = [one for one in found.values() if one.error]
    if failed:
        names = ", ".join(dict.fromkeys(one.cell.method for one in failed))
        notices.append(f"{len(failed)} cells failed ({names}): {failed[0].error}")
    return notices


class _Rows:
    """Cells as the document holds them, and the rows of who was right."""

    def __init__(self, table: ComparisonBench, reference: Measured) -> None:
        self._table, self._reference = table, reference
        self._right: dict[str, list[NDArray[np.bool_]]] = {split: [] for split in table.splits}
        #: The unpruned model's answers after each recovery, by seed.
        self._full: dict[tuple[str, int, str], Evaluation] = {}

    @property
    def right(self) -> dict[str, NDArray[np.bool_]]:
        return {split: np.array(rows) for split, rows in self._right.items()}

    def cell(self, one: Measured) -> dict[str, Any]:
        cell, choice = one.cell, one.choice
        recovered: dict[str, dict[str, Answers]] = {}
        for (recovery, split), answers in one.answers.items():
            recovered.setdefault(recovery, {})[split] = answers
            if cell.method == FULL:
                self._full[recovery, cell.seed, split] = answers.evaluation
        return {
            "method": cell.method,
            "setting": {} if choice is None else dict(choice.setting),
            "seed": cell.seed,
            "draw": cell.draw,
            "noise": cell.noise,
            "budget": {"requested": cell.budget, "attained": None if choice is None else choice.mask.count},
            "kept": None if choice is None else {str(at): heads for at, heads in enumerate(choice.mask.by_layer)},
            "recoveries": {name: self._recovery(cell, name, answers) for name, answers in recovered.items()},
            "seconds": {
                "score": None if choice is None else choice.seconds,
                "recovery": {name: of["eval"].recovery for name, of in recovered.items() if name != "none"},
                "evaluation": {name: sum(one.seconds for one in of.values()) for name, of in recovered.items()},
            },
            "price": choice and choice.price and {"forwards": choice.price.forwards, "labels": choice.price.labels},
            "error": one.error,
        }

    def _recovery(self, cell: Cell, recovery: str, answers: dict[str, Answers]) -> dict[str, Any]:
        found: dict[str, Any] = {"row": len(self._right["eval"])}
        for split in ("eval", "report"):
            if split not in answers:
                found[split] = None
                continue
            evaluation = answers[split].evaluation
            self._right[split].append(evaluation.correct)
            found[split] = self._quality(cell, recovery, split, evaluation)
        return found

    def _quality(self, cell: Cell, recovery: str, split: str, evaluation: Evaluation) -> dict[str, Any]:
        from cahp.stages.evaluation import delta, metrics

        full = self._reference.answers["none", split].evaluation
        unpruned = cell.method == FULL and recovery == "none"
        # The unpruned model after the same recovery, where that changes it.
        alike = self._full.get((recovery, cell.seed, split)) if recovery == "finetune" and cell.method != FULL else None
        return {
            **metrics(evaluation, full=None if unpruned else full).as_json(),
            "delta": None if unpruned else delta(evaluation, full).as_json(),
            "delta_alike": None if alike is None else delta(evaluation, alike).as_json(),
        }
