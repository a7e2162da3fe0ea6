"""One browser session: its model and data, the board, the results, and the work in progress.

Sessions share loaded models and the bundled run, which are keyed by content and hold no person's texts. Everything else
belongs to one session and cannot be reached from another.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from cahp.board.budget_sweep import BudgetTable
from cahp.board.contents import BoardSubject
from cahp.board.head_clusters import HeadClusters
from cahp.board.state import Board, Choices
from cahp.board.versus import Variant
from cahp.models.cards import ModelCard
from cahp.outcomes import Outcomes
from cahp.recoveries import AT_ONCE, NONE, QUICK, RECOVERIES, Recovery
from cahp.run.bench import Bench
from cahp.run.evidence import stored_roles
from cahp.run.settings import Settings
from cahp.ui.session.jobs import Job
from cahp.ui.session.opening import Source, bench_of, with_length
from cahp.ui.session.results import Results, same_evidence
from cahp.ui.session.work import (
    CHOICE,
    DISTIL,
    FIGURE,
    REFIT,
    ROLES,
    RUN,
    SPEED,
    TABLE,
    BoardState,
    Kind,
    Work,
)
from cahp.values import HeadMask, JsonObject
from cahp.values.head_roles import HeadRoles

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Pin:
    """A pruned model of ``card`` that others are compared with; it keeps no model in memory.

    Of ``settings`` only the model's name, its prompt and answers, and the label map are used.
    """

    variant: Variant
    card: ModelCard
    settings: Settings

    def is_of(self, card: ModelCard) -> bool:
        """Return whether it is a pruned version of this model."""
        return self.card.sha256 == card.sha256

    def bench(self, source: Source) -> Bench:
        """Return its model on the data of ``source``, sampled in the same way; a stage loads it when needed.

        Raises:
            CahpError: If the model does not fit these data.
        """
        if self.is_of(source.card):
            return source.bench
        settings = replace(
            source.settings,
            model=self.settings.model,
            prompt=self.settings.prompt,
            answers=self.settings.answers,
            label_map=self.settings.label_map or source.settings.label_map,
            max_length=self.card.max_length,
        )
        return bench_of(settings, self.card, source.raw)


@dataclass(frozen=True)
class RecoveryState:
    """The recovery of the mask on the board, by ``name``, and what of it is there.

    ``shown`` is the recovery of the figures: a quick refit stands for a refit that is not measured yet. ``ready`` is
    that of what else is measured of the mask: a refit of minutes begins only when a person asks. ``awaits`` is what the
    recovery of this name still lacks: nothing, a refit that is on its way or that a person must ask for, a
    distillation, or on this machine the model whose figures are bundled.
    """

    name: str
    shown: str
    ready: str
    awaits: Literal["", "refit", "request", "distillation", "distilled model"] = ""

    @property
    def row(self) -> Recovery:
        """What is known of this recovery."""
        return RECOVERIES[self.name]

    @property
    def refitting(self) -> str:
        """The recovery that runs every layer anew: the one that a quick refit stands for, or else a refit beside it."""
        if self.awaits_refit:
            return self.name
        return QUICK.name

    @property
    def awaits_refit(self) -> bool:
        """Whether a quick refit stands for the refit."""
        return self.awaits in ("refit", "request")

    @property
    def lacks_model(self) -> bool:
        """Whether the distilled model is not on this machine; its figures may be bundled."""
        return self.awaits in ("distillation", "distilled model")


class Explorer:
    """The state of one session: ``board`` holds the heads, ``results`` the measurements, ``work`` the jobs."""

    def __init__(self, session_id: str, source: Source) -> None:
        self.id = session_id
        self.source = source
        self.results = Results.load(source.bench)
        self.work = Work(session_id)
        self.board = Board(self.choices, self.start_budget)
        #: The recovery that a person or a link chose for the board (None: neither).
        self.chosen_recovery: str | None = None
        #: A pruned model to compare with the board, if one is pinned.
        self.pinned: Pin | None = None
        #: What features keep for this model and these data, by names of their own.
        self.memory: JsonObject = {}
        #: The head that was clicked last, as a flat index.
        self.selected: int | None = None
        #: The head whose card a person opened, and the one whose card is on screen (None: no card).
        self.card_head: int | None = None
        self.drawn_card: int | None = None
        #: The tab that is open below the board.
        self.detail = "My text"

    # Model and data ------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings of the next run."""
        return self.source.settings

    @property
    def card(self) -> ModelCard:
        """The model's description."""
        return self.source.card

    @property
    def bench(self) -> Bench:
        """The model with its data, matched and sampled; the weights are loaded when a stage needs them."""
        return self.source.bench

    @property
    def start_budget(self) -> int | None:
        """The budget that the board begins with: that of the settings if it is a number (None: the suggested one)."""
        if self.settings.budget.isdecimal():
            return int(self.settings.budget)
        return None

    def change(self, **changes: Any) -> None:
        """Change settings; results that do not depend on the change are kept."""
        if "min_per_layer" in changes:
            # A bench without a minimum asks for none.
            changes["recover"] = QUICK.name
        settings = with_length(replace(self.settings, **changes), uploaded=self.source.uploaded)
        if settings == self.settings:
            return
        source = self.source.with_settings(settings)
        if source.settings == self.settings:
            return
        same = same_evidence(source.settings, self.settings)
        self.source = source
        if "budget" in changes:
            # The board begins with it.
            self.board = Board(self.choices, self.start_budget)
        if not same:
            self.results = Results.load(self.bench)
            # A run in progress would have the old settings.
            self.work.drop(RUN, FIGURE, REFIT, DISTIL, SPEED)
        # Another method would put heads on the board that it chose under the old settings.
        self.work.drop(CHOICE, TABLE)

    @property
    def awaits_run(self) -> bool:
        """Whether a run with these settings would differ from the one on screen."""
        run = self.results.run
        if run is None:
            return True
        settings = self.settings
        if run.knee is None and settings.budget == "auto":
            # Without a knee, a run names half of the heads itself.
            settings = replace(settings, budget=run.settings.budget)
        return settings != run.settings

    # Results for the board -----------------------------------------------------------------------------------

    @property
    def clusters(self) -> HeadClusters | None:
        """The clusters from which heads are chosen, or None before the first run."""
        return self.results.clusters(self.settings)

    def table(self, recover: str = NONE.name) -> BudgetTable | None:
        """Return all budgets with their measurements, or None before the first run."""
        return self.results.table(self.settings, recover)

    def choices(self) -> Choices:
        """Return the heads that budgets keep under the current settings."""
        return Choices(self.card, self.settings, self.clusters, self.table())

    @property
    def mask(self) -> HeadMask:
        """The mask on the board."""
        return self.board.mask

    def outcomes(self, recover: str = NONE.name) -> Outcomes | None:
        """Return the measured outcomes of the mask on the board, if there are any."""
        # A new table enters the measurements of its budgets.
        self.table(recover)
        return self.results.outcomes(self.mask, recover)

    @property
    def no_refit(self) -> str | None:
        """The reason why no refit of this model on these texts is possible (None: it is possible)."""
        return self.bench.recoveries.no_refit

    @property
    def recoveries(self) -> list[str]:
        """The names of the recoveries that are possible on the board."""
        rows = (row for row in RECOVERIES.values() if row.on_board)
        possible = (row for row in rows if not (row.closed_form and self.no_refit))
        return [row.name for row in possible if not (row.adds_bypass and self.card.word_functions is None)]

    @property
    def bypass_rank(self) -> int:
        """The rank of a bypass on the board."""
        return self.card.choose_rank(self.settings.bypass_rank)

    @property
    def subject(self) -> BoardSubject:
        """What the board is about, with the recovery of its mask."""
        subject = self.results.subject
        weights = self.card.details.get("parameters")
        if not (RECOVERIES[self.recovery.name].adds_bypass and weights):
            return subject
        return replace(subject, bypass_size=self.card.weigh_bypass(self.bypass_rank) / weights)

    @property
    def can_refit(self) -> bool:
        """Whether the mask on the board can be refitted."""
        return not (self.mask.is_full or self.mask.empty_layers or self.no_refit)

    @property
    def recovery(self) -> RecoveryState:
        """The recovery of the mask on the board, and what of it is there."""
        name = self._name_recovery()
        measured = self.outcomes(name) is not None
        if RECOVERIES[name].trains and not measured:
            return RecoveryState(name, name, name, "distillation")
        if RECOVERIES[name].trains and not self.mask.is_full and self.results.ships(self.mask, name):
            return RecoveryState(name, name, name, "distilled model")
        quick = RECOVERIES[name].at_once
        if not quick or measured or not self.can_refit:
            return RecoveryState(name, name, name)
        if self.chosen_recovery is None and self.results.ships(self.mask, quick):
            return RecoveryState(name, quick, quick, "request")
        return RecoveryState(name, quick, name, "refit")

    def _name_recovery(self) -> str:
        """Return the chosen recovery, or else a refit where it or a quick one is measured for the mask.

        A mask made by hand keeps the refit of the budget that it was made from.
        """
        if self.chosen_recovery is not None:
            return self.chosen_recovery
        measured = self.outcomes(QUICK.name) is not None
        if not measured and self.can_refit:
            start = self.board.start
            of_start = start is not None and self.results.outcomes(start.mask, QUICK.name) is not None
            measured = self.outcomes(AT_ONCE.name) is not None or of_start
        return QUICK.name if measured and not self.mask.is_full else NONE.name

    @property
    def swept(self) -> str:
        """The recovery of the curves over budgets: the chosen one, or else a refit if as many budgets have one.

        Where models are measured on request, a table has a few rows only.
        """
        if self.chosen_recovery is not None:
            row = RECOVERIES[self.chosen_recovery]
            return NONE.name if row.on_request else row.name
        pruned = self.table()
        refitted = self.table(QUICK.name)
        if pruned is not None and refitted is not None and refitted.measured() >= pruned.measured():
            return QUICK.name
        return NONE.name

    @property
    def roles(self) -> HeadRoles | None:
        """The roles of the model's heads, measured in this session or before (None: not measured)."""
        job = self.work.job(ROLES, self.bench)
        if job is not None and job.result is not None:
            return job.result
        return self.results.once("roles", lambda: stored_roles(self.bench.resources))

    # Work on the board ---------------------------------------------------------------------------------------

    def job(self, kind: Kind[BoardState, T], recover: str | None = None) -> Job[T] | None:
        """Return the job of this kind for the current board, or another recovery of it (None: it was not started)."""
        return self.work.job(kind, self.board_state(recover))

    def board_state(self, recover: str | None = None) -> BoardState:
        """Return the current board as the subject of a job, with another recovery if one is named."""
        recover = recover or self.recovery.name
        return BoardState(self.bench, self.results, self.mask, recover, self.table(recover))

    def collect(self) -> str | None:
        """Show the results of a run that has finished; return why it failed."""
        job = self.work.job(RUN)
        if job is None or not job.ended:
            return None
        self.work.drop(RUN)
        if job.result is None:
            return job.error
        run = job.result
        if same_evidence(run.document.settings, self.settings):
            self.results = Results(run.document, run.arrays)
            distilling = self.work.job(DISTIL)
            self.work.drop(FIGURE, REFIT, DISTIL, SPEED, TABLE)
            if distilling is not None and not distilling.ended:
                return "The run has ended, and stopped the distillation. Start it again: it goes on where it was."
        return None

    def close(self) -> None:
        """Cancel all jobs of this session."""
        self.work.close()
