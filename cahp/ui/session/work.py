"""The work of one session: a table of the kinds of jobs, and the latest job of each kind.

A kind has the job's key, its rank, its function and an estimate of its time; the queue is in ``jobs``.
"""

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic, sleep
from typing import Any, Generic, TypeVar

from cahp.api import preflight
from cahp.api.preflight import STEP_TOKENS
from cahp.board.budget_sweep import BudgetTable, count_tokens, evaluate_mask, fill
from cahp.board.versus import Variant, Versus, compare_variants
from cahp.features import measures
from cahp.models.cards import Costs
from cahp.outcomes import Outcomes
from cahp.recoveries import RECOVERIES
from cahp.run.bench import Bench
from cahp.run.evidence import find_roles
from cahp.run.measurements import estimate_seconds
from cahp.run.measures import list_wanted
from cahp.run.prune import Run, choose, measure_run
from cahp.run.recoveries import Recovered, measure_steps
from cahp.run.resources import PREPARATIONS
from cahp.ui.session import jobs
from cahp.ui.session.jobs import Job, Rank, is_quiet
from cahp.ui.session.opening import is_loaded
from cahp.ui.session.results import Results, at_half
from cahp.values import DataError, HeadMask, KneeNotFoundError, OptionError, Progress
from cahp.values.head_roles import HeadRoles

S = TypeVar("S")
T = TypeVar("T")

#: Loading a model in advance waits at most so many seconds for a quiet moment, and checks so often.
_WARM_LATEST_S = 20.0
_WARM_CHECK_S = 0.1
#: The recoveries that boards show at once.
_QUICK = tuple(dict.fromkeys(row.at_once for row in RECOVERIES.values() if row.at_once))

#: Seconds after which a page polls its jobs, and while a model is loaded.
_PULSE_S = 0.6
_LOADING_PULSE_S = 2.0


@dataclass(frozen=True, eq=False)
class BoardState:
    """The subject of a job: the mask on the board and its recovery, with the table and results for its figures."""

    bench: Bench
    results: Results
    mask: HeadMask
    recover: str = "none"
    table: BudgetTable | None = None

    @property
    def need_table(self) -> BudgetTable:
        """The table, which there is after the first run."""
        assert self.table is not None
        return self.table

    def __str__(self) -> str:
        bench = self.bench
        texts = f"{bench.calibration.sha256}-{bench.evaluation.sha256}"
        return f"{bench.card.sha256}-{self.mask.sha256}-{self.recover}-{texts}-{bench.settings.seed}"


# How long work takes on this machine, in seconds -------------------------------------------------------------


def loading_seconds(bench: Bench) -> float:
    """Estimate the seconds until the model of a bench is in memory and verified."""
    if is_loaded(bench.card, device=bench.settings.device):
        return 0.0
    return preflight.loading_seconds(bench.card)


def pass_seconds(bench: Bench, *, evaluation: float) -> float:
    """Estimate the seconds of so many passes over the evaluation texts."""
    return estimate_seconds(bench.card, tokens=evaluation * bench.evaluation.tokens)


def recovery_seconds(bench: Bench, recover: str) -> float:
    """Estimate the seconds of a recovery; see ``plan_recovery``."""
    return sum(plan_recovery(bench, recover).values())


def plan_recovery(bench: Bench, recover: str) -> dict[str, float]:
    """Estimate the seconds of each stage of a recovery, with loading the model before and an evaluation after it."""
    tokens = bench.calibration.tokens
    texts = len(bench.calibration)
    stages = preflight.plan_recovery(bench.card, bench.settings, recover, tokens=tokens, texts=texts)
    return {"load": loading_seconds(bench), **stages, "evaluation": pass_seconds(bench, evaluation=1)}


def table_seconds(board: BoardState) -> float:
    """Estimate the seconds of measuring what a table of budgets lacks, with loading the model before it."""
    bench = board.bench
    return loading_seconds(bench) + estimate_seconds(bench.card, tokens=count_tokens(board.need_table, bench))


def plan_run(bench: Bench) -> dict[str, float]:
    """Estimate the seconds of each stage of a run, with loading the model before it."""
    evaluation = float(bench.evaluation.tokens)
    for one, options in list_wanted(measures(), bench):
        evaluation += one.tokens(bench, options) + STEP_TOKENS * one.generated
    tokens = bench.calibration.tokens
    texts = len(bench.calibration)
    stages = preflight.plan_run(bench.card, bench.settings, calibration=tokens, evaluation=evaluation, texts=texts)
    return {"load": loading_seconds(bench), **stages}


# The functions -----------------------------------------------------------------------------------------------


def _run(bench: Bench, _: Progress) -> Run:
    """Make a whole run."""
    bench.recoveries.check(bench.settings.recover)
    try:
        choose(bench)
    except KneeNotFoundError:
        bench = at_half(bench)
    return measure_run(bench, measures=measures())


def _warm(bench: Bench, progress: Progress) -> Generator[None, None, None]:
    # Importing PyTorch blocks the pages that are being drawn, such as those of a class that opens them at once.
    latest = monotonic() + _WARM_LATEST_S
    while monotonic() < latest and not (is_quiet() or is_loaded(bench.card, device=bench.settings.device)):
        sleep(_WARM_CHECK_S)
        progress("waiting", 0, 1)
        yield
    progress("load", int(bench.model.layers > 0), 1)
    yield
    progress("evaluation", len(bench.full), len(bench.evaluation))
    bench.measurements.prepare(bench.evaluation)
    # The first head that a person removes is then recovered at once.
    for name in _QUICK:
        yield
        # Whoever asks for one that this model cannot have, or that needs more texts, is told.
        with suppress(OptionError, DataError):
            bench.recoveries.prepare(name)


def _figure(board: BoardState, _: Progress) -> Outcomes | None:
    """Evaluate the mask; None where it would have to be trained first, which a person has to start."""
    if RECOVERIES[board.recover].trains and not board.mask.is_full:
        earlier = board.bench.recoveries.read(board.mask, board.recover)
        if earlier is None:
            return None
        return _enter_distilled(board, earlier)
    show = partial(board.results.glimpses.__setitem__, (board.mask.sha256, board.recover))
    return _enter(board, evaluate_mask(board.bench, board.mask, recover=board.recover, on_part=show))


def _enter_distilled(board: BoardState, distilled: Recovered) -> Outcomes:
    bench = board.bench
    measured = evaluate_mask(bench, board.mask, recovered=distilled)
    gains = measure_steps(bench.measurements, bench.evaluation, board.mask, distilled, seed=bench.settings.seed)
    assert distilled.distill is not None
    board.results.distilled[board.mask.sha256] = distilled.distill, gains
    return _enter(board, measured)


def _enter(board: BoardState, measured: Outcomes) -> Outcomes:
    if board.table is not None and board.table.has(board.mask):
        board.table.add(board.mask.count, outcomes=measured)
    else:
        board.results.add(board.mask, board.recover, measured)
    return measured


def measure_costs(board: BoardState, recovered: Recovered | None = None, *, fresh: bool = False) -> Costs:
    """Time the mask with its recovery, ``recovered`` if that is at hand, anew if ``fresh``, and enter its costs."""
    row = RECOVERIES[board.recover]
    if recovered is None and row.adds_bypass:
        recoveries = board.bench.recoveries
        # A bypass that is there at once takes as long.
        recovered = recoveries.read(board.mask, row.name) or recoveries.recover(board.mask, row.at_once or row.name)
    costs = board.bench.costs(board.mask, recovered, fresh=fresh)
    board.results.add_costs(board.mask, board.recover, costs)
    return costs


def _flips(board: BoardState, _: Progress) -> Versus | None:
    everything = Variant(board.mask.unpruned)
    return compare_variants((board.bench, everything), (board.bench, Variant(board.mask, board.recover)))


def _choose_by(asked: tuple[Bench, str, int], _: Progress) -> tuple[str, HeadMask]:
    """Choose as many heads by another method; return its name, too."""
    bench, method, budget = asked
    other = replace(bench, settings=replace(bench.settings, method=method))
    return method, choose(other, budget).mask


# The kinds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Kind(Generic[S, T]):
    """A kind of job on a subject ``S`` with a result ``T``.

    ``key`` identifies a job. ``awaited``: pages poll for its result. ``newest``: a new job cancels an older one.
    ``seconds`` estimates how long it takes (None: unknown), ``stages`` how long each of its stages does, where these
    are known. ``title`` names the work where it stands alone (empty: its stages do).
    """

    work: Callable[[S, Progress], T] | Callable[[S, Progress], Generator[None, None, T]]
    key: Callable[[S], str]
    rank: Rank = Rank.QUICK
    awaited: bool = True
    newest: bool = False
    seconds: Callable[[S], float | None] = lambda _: None
    stages: Callable[[S], dict[str, float]] = lambda _: {}
    title: str = ""


#: Make a run on this machine.
RUN: Kind[Bench, Run] = Kind(
    _run,
    lambda _: "run",
    Rank.RUN,
    awaited=False,
    seconds=lambda bench: sum(plan_run(bench).values()),
    stages=plan_run,
    title="Run",
)
#: Measure the roles of the heads.
ROLES: Kind[Bench, HeadRoles] = Kind(
    lambda bench, _: find_roles(bench.resources),
    lambda bench: f"roles-{bench.card.sha256}",
    Rank.RUN,
    # They take as long as about half of the evaluation texts.
    seconds=lambda bench: pass_seconds(bench, evaluation=0.5),
)
#: Choose heads for the board by another method.
CHOICE = Kind(
    _choose_by,
    lambda asked: f"choice-{asked[0].calibration.sha256}-{asked[0].settings.seed}-{asked[1:]}",
    Rank.RUN,
    newest=True,
    title="Choice of heads",
)
#: Load the model, and compute the full model's predictions and what a quick recovery needs, before they are needed.
WARM: Kind[Bench, None] = Kind(
    _warm,
    lambda bench: f"warm-{bench.card.sha256}-{bench.evaluation.sha256}-{bench.settings.device}",
    Rank.BACKGROUND,
    awaited=False,
    newest=True,
)
#: Evaluate the mask on the board.
FIGURE = Kind(_figure, lambda board: f"figure-{board}", newest=True)
#: Refit the mask on the board in the background.
REFIT = Kind(
    _figure,
    lambda board: f"refit-{board}",
    Rank.LONG,
    newest=True,
    seconds=lambda board: recovery_seconds(board.bench, board.recover),
    title="Recovery",
)
#: Distil the mask on the board: minutes of training that let figures and runs pass.
DISTIL: Kind[BoardState, Outcomes] = Kind(
    lambda board, _: _enter_distilled(board, board.bench.recoveries.distill(board.mask)),
    lambda board: f"distil-{board}",
    Rank.LONG,
    seconds=lambda board: recovery_seconds(board.bench, board.recover),
    title="Distillation",
)
#: Time the mask on the board; a time that is already shown is measured again.
SPEED: Kind[BoardState, Costs] = Kind(
    lambda board, _: measure_costs(board, fresh=board.results.speed(board.mask, board.recover) is not None),
    lambda board: f"speed-{board.mask.counts}-{RECOVERIES[board.recover].adds_bypass}",
    Rank.RUN,
)
#: Measure all budgets in the background.
TABLE: Kind[BoardState, BudgetTable] = Kind(
    lambda board, progress: fill(board.need_table, board.bench, progress),
    lambda board: f"table-{id(board.table)}",
    Rank.BACKGROUND,
    seconds=table_seconds,
    title="All budgets",
)
#: Compare the full model with the mask on the board (None: it is not distilled yet).
FLIPS = Kind(_flips, lambda board: f"flips-{board}")


class Work:
    """The jobs of one session, by kind."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._jobs: dict[Kind[Any, Any], Job[Any]] = {}

    def start(self, kind: Kind[S, T], subject: S, *, rank: Rank | None = None) -> Job[T]:
        """Start a job of this kind, with another ``rank`` than usual; if the same one is in progress, return that."""
        key = kind.key(subject)
        earlier = self._jobs.get(kind)
        if kind.newest and earlier is not None and earlier.key != key:
            earlier.cancel()
        if rank is None:
            rank = kind.rank
        work: Any = partial(kind.work, subject)
        stages = kind.stages(subject)
        expected = sum(stages.values()) or kind.seconds(subject) or None
        job: Job[T] = jobs.submit(
            self._session_id, key, work, rank=rank, expected=expected, stages=stages, title=kind.title
        )
        self._jobs[kind] = job
        return job

    def job(self, kind: Kind[S, T], subject: S | None = None) -> Job[T] | None:
        """Return the latest job of this kind (None: there is none, or it is about another subject)."""
        job = self._jobs.get(kind)
        if job is None or subject is None or job.key == kind.key(subject):
            return job
        return None

    def drop(self, *kinds: Kind[Any, Any]) -> None:
        """Cancel the jobs of these kinds and forget them."""
        for kind in kinds:
            job = self._jobs.pop(kind, None)
            if job is not None:
                job.cancel()

    @property
    def pulse(self) -> float | None:
        """The seconds after which a page should poll (None: no job is in progress that it will show).

        While a model is loaded none can come, and drawing the page again and again would slow the loading.
        """
        unfinished = {kind: job for kind, job in self._jobs.items() if not job.ended}
        if not any(kind.awaited for kind in unfinished):
            return None
        loads = any(job.stage in PREPARATIONS for job in unfinished.values())
        return _LOADING_PULSE_S if loads else _PULSE_S

    def close(self) -> None:
        """Cancel all jobs of this session."""
        for job in jobs.unfinished(self._session_id):
            job.cancel()
