"""The work of one session: a table of the kinds of jobs, and which job of each kind was asked for last.

A kind says what identifies a job, who goes first, and what is done; the queue is ``jobs``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from cahp.outcomes import Outcomes, changed_rows
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench
from cahp.run.prune import Run, choose, measure_run
from cahp.run.recovered import Distilled
from cahp.run.recovery_steps import measure_steps
from cahp.run.seal import TestSeal
from cahp.run.stopwatch import Stopwatch
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.filling import fill, measure_mask, measure_recovered, recovered_by, timed
from cahp.studies.head_clusters import HeadClusters
from cahp.tasks.inspect import expected_seconds
from cahp.ui.session import jobs, memory
from cahp.ui.session.jobs import Job, Rank
from cahp.ui.session.opening import is_loaded
from cahp.ui.session.results import Results, heads_of_layers
from cahp.values import Costs, HeadMask, Progress, Texts
from cahp.words import side_by_side

if TYPE_CHECKING:
    from cahp.models.training import Watch

S = TypeVar("S")
T = TypeVar("T")

#: Seconds that reading a model ahead waits for a quiet moment at most, and after which it looks again.
_LATEST_S, _LOOK_S = 20.0, 0.1

#: What a run takes beside its texts: reading and proving the model, placing the heads, timing.
_OVERHEAD_S = 15.0


@dataclass(frozen=True, eq=False)
class OnBoard:
    """What is on a board: the mask, its recovery, the table of its budgets, and where figures go.

    ``watch`` sees a training.
    """

    bench: Bench
    results: Results
    mask: HeadMask
    recover: str = "none"
    table: BudgetTable | None = None
    watch: Watch | None = None

    def __str__(self) -> str:
        bench = self.bench
        return f"{self.mask.sha256}-{self.recover}-{bench.calibration.sha256}-{bench.evaluation.sha256}"


@dataclass(frozen=True)
class Flip:
    """A text that is answered differently under the mask; it stays in the session that it belongs to."""

    text: str
    label: str
    full: str
    pruned: str


@dataclass(frozen=True)
class Confirmation:
    """How a mask does on the test split, and how often that split has been opened for this model."""

    outcomes: Outcomes
    opened: int


# What is done ------------------------------------------------------------------------------------------------


def _run(bench: Bench, progress: Progress) -> tuple[Run, HeadClusters]:
    """The whole run, then the clusters that the board needs."""
    selection, costs = choose(bench), None
    if bench.settings.latency and not selection.mask.empty_layers:
        # In a process of its own.
        with Stopwatch.of(bench) as watch:
            costs = timed(watch, bench, selection.mask, progress)
    return measure_run(bench, costs=costs), HeadClusters.of(bench.evidence)


def _warm(bench: Bench, progress: Progress) -> Generator[None, None, None]:
    # A class that opens its pages would wait for PyTorch to be read in between.
    latest = monotonic() + _LATEST_S
    while monotonic() < latest and not (memory.quiet() or is_loaded(bench.card, device=bench.settings.device)):
        sleep(_LOOK_S)
        progress("waiting", 0, 1)
        yield
    progress("load", int(bench.model.layers > 0), 1)
    progress("evaluation", len(bench.full), len(bench.evaluation))


def _figure(asked: OnBoard, _: Progress) -> Outcomes | None:
    """How the mask answers; None where it would have to be distilled first, which a person asks for."""
    if RECOVERIES[asked.recover].trains and not asked.mask.is_full:
        before = asked.bench.for_distillation().measurements.distilled_before(asked.mask)
        return None if before is None else _distilled(asked, before)
    return _entered(asked, measure_mask(asked.bench, asked.mask, recover=asked.recover))


def _distil(asked: OnBoard, _: Progress) -> Outcomes:
    made = asked.bench.for_distillation().measurements.distill(asked.mask, watch=asked.watch)
    return _distilled(asked, made)


def _distilled(asked: OnBoard, made: Distilled) -> Outcomes:
    bench = asked.bench
    found = measure_recovered(bench, asked.mask, made)
    brought = measure_steps(bench.measurements, bench.evaluation, asked.mask, made, seed=bench.settings.seed)
    asked.results.add_distillation(asked.mask, made.report, brought)
    return _entered(asked, found)


def _entered(asked: OnBoard, found: Outcomes) -> Outcomes:
    if asked.table is not None and asked.table.has(asked.mask):
        asked.table.add(asked.mask.count, outcomes=found)
    else:
        asked.results.add(asked.mask, asked.recover, found)
    return found


def _speed(asked: OnBoard, progress: Progress) -> Costs:
    """The time of the mask; where one is shown already, it is taken once more."""
    again = asked.results.speed(asked.mask) is not None
    with Stopwatch.of(asked.bench) as watch:
        found = timed(watch, asked.bench, asked.mask, progress, fresh=again)
    asked.results.add_costs(asked.mask, found)
    return found


def _table(asked: OnBoard, progress: Progress) -> Generator[None, None, BudgetTable]:
    assert asked.table is not None
    return fill(asked.table, asked.bench, progress)


def _flips(asked: OnBoard, _: Progress) -> list[Flip]:
    bench, measurements = asked.bench, asked.bench.measurements
    recovered = recovered_by(asked.recover, bench, asked.mask)
    full = measurements.evaluate(bench.evaluation)
    pruned = measurements.evaluate(bench.evaluation, mask=asked.mask, recovered=recovered)
    classes, inputs = bench.evaluation.classes, bench.evaluation.inputs
    return [
        Flip(
            side_by_side(inputs[row]),
            *(classes[side[row]] for side in (bench.evaluation.labels, full.predictions, pruned.predictions)),
        )
        for row in changed_rows(pruned, full)
    ]


def _confirm(asked: OnBoard, _: Progress) -> Confirmation:
    """Evaluate on the test split, which counts as opening it once."""
    bench = asked.bench
    test = replace(bench, evaluation=bench.dataset.split("test"))
    found = measure_mask(test, asked.mask, recover=asked.recover)
    return Confirmation(found, TestSeal(bench.card, bench.dataset, bench.resources.store).open())


#: Every page that offers a run asks again.
_counted: WeakKeyDictionary[Texts, int] = WeakKeyDictionary()


def _words(texts: Texts) -> int:
    if texts not in _counted:
        _counted[texts] = sum(len(text.split()) for text in texts.first)
    return _counted[texts]


def run_seconds(bench: Bench) -> float:
    """About how long a run takes here."""
    # About 1.3 tokens a word, what the calibration texts cost once, and the evaluation texts twice.
    texts, evaluated = bench.calibration, bench.evaluation
    tokens = int(1.3 * (_words(texts) + 2 * _words(evaluated))) + 4 * (len(texts) + 2 * len(evaluated))
    return expected_seconds(bench.card, tokens=tokens) + _OVERHEAD_S


def reading_seconds(bench: Bench, texts: int) -> float:
    """About how long a pass over so many of the evaluation texts takes here."""
    evaluated = bench.evaluation
    tokens = 1.3 * _words(evaluated) + 4 * len(evaluated)
    return expected_seconds(bench.card, tokens=int(tokens * min(1.0, texts / len(evaluated))))


def distil_seconds(bench: Bench) -> float:
    """About how long the distillation of a mask takes here, with the refit before it and the evaluation after."""
    texts, evaluated = bench.calibration, bench.evaluation
    passes = RECOVERIES["distill"].passes(len(texts), can_refit=not bench.card.no_refit) / len(texts)
    tokens = passes * (1.3 * _words(texts) + 4 * len(texts)) + 1.3 * _words(evaluated) + 4 * len(evaluated)
    return expected_seconds(bench.card, tokens=int(tokens))


# The kinds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kind(Generic[S, T]):
    """A kind of job on a subject ``S`` that brings a ``T``.

    ``key`` tells its jobs apart. ``awaited``: a page shows what comes of it. ``newest``: nobody waits for an older one.
    With a ``headline`` only the progress of that stage is shown. ``shared``: the same for all sessions with that key.
    ``aside``: it computes little and waits for a disk or the network.
    """

    work: Callable[[S, Progress], T] | Callable[[S, Progress], Generator[None, None, T]]
    key: Callable[[S], str]
    rank: Rank = Rank.QUICK
    awaited: bool = True
    newest: bool = False
    shared: bool = False
    aside: bool = False
    headline: str | None = None
    expected: Callable[[S], float | None] = lambda _: None


#: Measure on this machine.
RUN: Kind[Bench, tuple[Run, HeadClusters]] = Kind(_run, lambda _: "run", Rank.RUN, awaited=False, expected=run_seconds)
#: What the choice of heads follows from, where a run was made before.
CLUSTERS: Kind[Bench, HeadClusters] = Kind(
    lambda bench, _: HeadClusters.of(bench.evidence),
    lambda bench: f"clusters-{bench.settings.salience}-{bench.settings.poly_degree}",
    awaited=False,
)
#: Have the model read and the full model's answers at hand, before anybody asks for a mask of their own.
WARM: Kind[Bench, None] = Kind(
    _warm,
    lambda bench: f"warm-{bench.card.sha256}-{bench.evaluation.sha256}-{bench.settings.device}",
    Rank.BACKGROUND,
    awaited=False,
    shared=True,
)
#: How the mask on the board answers. Nobody waits for one that is not on the board any more.
FIGURE: Kind[OnBoard, Outcomes | None] = Kind(_figure, lambda asked: f"figure-{asked}", newest=True)
#: Distil the mask on the board: minutes of training step aside for whatever somebody waits for.
DISTIL: Kind[OnBoard, Outcomes] = Kind(
    _distil, lambda asked: f"distil-{asked}", Rank.BACKGROUND, expected=lambda asked: distil_seconds(asked.bench)
)
#: How long the mask on the board takes, timed in a process of its own.
SPEED: Kind[OnBoard, Costs] = Kind(_speed, lambda asked: f"speed-{heads_of_layers(asked.mask)}", Rank.RUN)
#: The table of all budgets, behind the scenes.
TABLE: Kind[OnBoard, BudgetTable] = Kind(
    _table, lambda asked: f"table-{id(asked.table)}", Rank.BACKGROUND, headline="table"
)
#: The texts whose answer the mask on the board changes.
FLIPS: Kind[OnBoard, list[Flip]] = Kind(_flips, lambda asked: f"flips-{asked}")
#: How the mask on the board does on the test split.
CONFIRM: Kind[OnBoard, Confirmation] = Kind(_confirm, lambda asked: f"confirm-{asked}")


class Work:
    """The jobs of one session, by kind."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._jobs: dict[Kind[Any, Any], Job[Any]] = {}

    def start(self, kind: Kind[S, T], subject: S) -> Job[T]:
        """Let the worker do it; what is under way already is the same job."""
        key, earlier = kind.key(subject), self._jobs.get(kind)
        if kind.newest and earlier is not None and earlier.key != key:
            earlier.cancel(self._session_id)
        work: Any = partial(kind.work, subject)
        if kind.aside:
            job: Job[T] = jobs.submit_aside(self._session_id, key, work)
        else:
            job = jobs.submit(
                self._session_id,
                key,
                work,
                rank=kind.rank,
                expected=kind.expected(subject),
                headline=kind.headline,
                shared=kind.shared,
            )
        self._jobs[kind] = job
        return job

    def job(self, kind: Kind[S, T], subject: S | None = None) -> Job[T] | None:
        """The job of this kind that was asked for last (None: none was, or it is about another subject)."""
        job = self._jobs.get(kind)
        return None if job is None or (subject is not None and job.key != kind.key(subject)) else job

    def take(self, kind: Kind[S, T]) -> Job[T] | None:
        """The job of this kind once it has ended, and only once."""
        job = self._jobs.get(kind)
        return self._jobs.pop(kind) if job is not None and job.ended else None

    def drop(self, *kinds: Kind[Any, Any]) -> None:
        """Stop the jobs of these kinds and forget them."""
        for kind in kinds:
            job = self._jobs.pop(kind, None)
            if job is not None:
                job.cancel(self._session_id)

    def pending(self) -> bool:
        """Whether anything is under way that will change what a page shows."""
        return any(kind.awaited and not job.ended for kind, job in self._jobs.items())

    def close(self) -> None:
        """Stop all work of this session."""
        for job in jobs.unfinished(self._session_id):
            job.cancel(self._session_id)
