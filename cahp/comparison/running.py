"""Running a comparison: what is cached is found, the rest is measured, here or elsewhere, and everything is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter

from cahp import models
from cahp.comparison.benches import Benches
from cahp.comparison.cells import Measured, cached
from cahp.comparison.engines import Here, engine, usual_jobs, workers_of
from cahp.comparison.estimate import Estimate, estimate, forwards
from cahp.comparison.plan import FULL, Cell, Plan
from cahp.comparison.recording import comparison
from cahp.comparison.result import Comparison
from cahp.comparison.workers import run
from cahp.data import Dataset
from cahp.run.resources import Loader
from cahp.run.seal import TestSeal
from cahp.store import Store, key
from cahp.values import CahpError, OptionError, Progress, silent

STAGE = "compare"


def compare(
    plan: Plan,
    *,
    store: Store | None = None,
    jobs: int | None = 1,
    cluster: str | None = None,
    command: str = "",
    progress: Progress = silent,
    announce: Callable[[Estimate], None] = lambda _: None,
    load: Loader = models.load,
    dataset: Dataset | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Comparison:
    """Measure every method at every budget with every seed, under one protocol.

    Heads are chosen on calibration texts alone. Of a method that has settings, tuning texts choose one if
    ``plan.tries`` says so, with as many tries for every such method; they are no evaluation texts. The test split is
    opened only if the plan's settings report on it, and after the choice of each mask. ``progress`` counts forward
    passes and may raise ``Cancelled``; what was measured by then is kept. ``jobs`` processes share the cells, or a
    ``cluster`` does; None is one process, or one for each of several GPUs. ``load`` reads the model in this process; a
    ``dataset`` as it was read, its labels not yet matched, may be given where no other process takes part.

    Raises:
        CahpError: If model, data and options cannot be used together, or no method could be measured.
    """
    start = clock()
    if jobs is not None and jobs < 1:
        raise OptionError(f"--jobs {jobs} is impossible; give 1 or more")
    if dataset is not None and ((jobs or 1) > 1 or cluster):
        raise OptionError("texts at hand stay in this process; use one job and no cluster")
    if plan.settings.report and not plan.settings.report == "test":
        raise OptionError(f"--report {plan.settings.report} is unknown; the only split to report on is test")
    store = store or Store()
    benches = Benches(plan, store=store, load=load, dataset=dataset)
    card = benches.card
    if "refit" in plan.recoveries and card.no_refit:
        raise OptionError(f"{card.no_refit}; use --recover distill, finetune or none")
    cells = plan.cells(layers=card.layers, heads=card.heads)
    references = [Cell(FULL, card.layers * card.heads, seed, seed) for seed in plan.seeds]
    found: dict[Cell, Measured] = {}
    missing = _missing(benches, (*references, *cells), found)
    opened = _opened(benches, bool(missing))
    cost = Estimate(len(cells), len(cells), 0.0, 0.0, 0.0, 0.0)
    if missing:
        jobs = jobs or (1 if dataset is not None or cluster else usual_jobs(plan.settings.device))
        with engine(jobs=jobs, cluster=cluster, device=plan.settings.device) as executor:
            # The first one is the full model's: it also tells how long a forward pass takes.
            first = replace(references[0], recovered=False)
            pace = cached(benches, first) or next(run(benches, [first], executor, cluster))
            missing = _missing(benches, missing, found)
            passes = forwards(benches, missing)
            cost = estimate(cells, passes, pace, workers=jobs if cluster is None else workers_of(executor))
            announce(cost)
            watch = _Watch(progress, cost.forwards)
            if isinstance(executor, Here):
                benches.report_to(watch.poll)
            watch.poll()
            for one in run(benches, missing, executor, cluster):
                found[one.cell] = one
                watch.done(sum(passes[one.cell]))
    _check(found, cells, references)
    seconds = clock() - start
    return comparison(benches, found, cells, references, cost=cost, opened=opened, command=command, seconds=seconds)


def _missing(benches: Benches, cells: Sequence[Cell], found: dict[Cell, Measured]) -> list[Cell]:
    """The cells that are not in the store; ``found`` gets those that are."""
    found |= {cell: one for cell in cells if (one := cached(benches, cell)) is not None}
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


def _opened(benches: Benches, missing: bool) -> int:
    """How often the test split was opened, this time included; a comparison that is resumed counts once."""
    seal = TestSeal(benches.card, benches.dataset, benches.store)
    if "report" not in benches.splits:
        return seal.opened
    plan = benches.plan
    name = key("compare-opened", 1, benches.card.sha256, benches.splits["report"].sha256, repr(plan))
    if not missing or benches.store.load(name) is not None:
        return seal.opened
    count = seal.open()
    benches.store.save(name, meta={"count": count})
    return count


def _check(found: dict[Cell, Measured], cells: Sequence[Cell], references: Sequence[Cell]) -> None:
    for cell in references:
        if found[cell].error:
            raise CahpError(f"the full model could not be measured ({found[cell].error}); try `cahp evaluate` first")
    if all(found[cell].error for cell in cells):
        raise CahpError(f"no method could be measured; the first says: {found[cells[0]].error}")
