"""One browser session: its model and data, the board, the results, and the work that makes them.

Nothing of one session is reachable from another. What sessions share, loaded models and the bundled run, is keyed by
content and holds nobody's texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from cahp.board.state import Board, Choices
from cahp.cards import ModelCard
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE, QUICK, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.settings import Settings
from cahp.studies.budget_sweep import BudgetTable, Speed
from cahp.studies.head_clusters import HeadClusters
from cahp.ui.session import memory
from cahp.ui.session.jobs import Job
from cahp.ui.session.opening import Source, is_loaded
from cahp.ui.session.pin import Pin
from cahp.ui.session.results import Results, same_but_for_readings
from cahp.ui.session.work import CLUSTERS, DISTIL, FIGURE, RUN, SPEED, TABLE, Kind, OnBoard, Work
from cahp.values import HeadMask

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Training

T = TypeVar("T")

#: Seconds that a page waits for clusters that a run has left in the store.
_PATIENCE_S = 20.0


class Explorer:
    """What one person explores: ``board`` has the heads, ``results`` what is measured, ``work`` what is under way."""

    def __init__(self, session_id: str, source: Source) -> None:
        self.id = session_id
        self.source = source
        self.results = Results.found(source.bench)
        self.work = Work(session_id)
        self.board = Board(self.choices)
        #: Whether the board shows pruned models as they are, refitted, or distilled.
        self.recover: str = "none"
        #: A pruned model to hold the one on the board against, if one was pinned.
        self.pinned: Pin | None = None
        #: What a link says of one whose model is not yet looked up.
        self.pin_asked: Mapping[str, str] = {}
        #: Where the distillation that was asked for last stands, once it trains.
        self.training: Training | None = None
        #: The head that was clicked or asked about last, as a flat index.
        self.selected: int | None = None
        #: What the page of the board shows below it.
        self.detail = "Where the heads lie"
        #: Why the last run failed, until a page has said so.
        self.trouble: str | None = None
        memory.remember(self)

    # What is explored ----------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """What the next run is asked."""
        return self.source.settings

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self.source.card

    @property
    def bench(self) -> Bench:
        """The model and its data, matched and sampled; opens cheap, reads the model when a stage needs it."""
        return self.source.bench

    @property
    def settings_changed(self) -> bool:
        """Whether the settings are others than those of the run on screen."""
        return self.results.run is not None and self.settings != self.results.run.settings

    @property
    def verified(self) -> bool:
        """Whether the model was read here and passed its self-test."""
        return is_loaded(self.card, device=self.settings.device)

    def model(self) -> HeadModel:
        """The loaded, self-tested model (the first call reads it, which takes seconds: do that in a job).

        Raises:
            ModelError: If it cannot be loaded or its masks would not be true.
        """
        return self.bench.model

    def change(self, **changes: Any) -> None:
        """Change settings; what does not depend on the change stays measured."""
        if "min_per_layer" in changes:
            # A layer without heads cannot be cut out, so such a model cannot be recovered.
            changes["recover"] = (QUICK if changes["min_per_layer"] else NONE).name
        settings = replace(self.settings, **changes)
        if settings == self.settings:
            return
        same_question = same_but_for_readings(settings, self.settings)
        self.source = self.source.with_settings(settings)
        if not same_question:
            self.results = Results.found(self.bench)
            # A run that is under way would answer the question of before.
            self.work.drop(RUN, CLUSTERS, FIGURE, DISTIL, SPEED)
        self.work.drop(TABLE)

    # What the board and its figures follow from --------------------------------------------------------------

    @property
    def clusters(self) -> HeadClusters | None:
        """What the choice of heads follows from, or None until a run has found it out."""
        found = self.results.clusters(self.settings)
        if found is None and self.results.run is not None:
            # A run was here, so its stages are in the store; should they be gone, the worker makes them again.
            job = self.work.start(CLUSTERS, self.bench)
            job.wait(_PATIENCE_S)
            found = job.result
            if found is not None:
                self.results.add_clusters(self.settings, found)
        return found

    def table(self, recover: str = "none") -> BudgetTable | None:
        """All budgets and what is measured of them, or None before the first run."""
        return None if self.clusters is None else self.results.table(self.settings, recover)

    def choices(self) -> Choices:
        """What budgets keep under the settings of now."""
        return Choices(self.card, self.settings, self.clusters, self.table())

    @property
    def mask(self) -> HeadMask:
        """The mask on the board."""
        return self.board.mask

    def outcomes(self, recover: str = "none") -> Outcomes | None:
        """How the mask on the board answers, if that is measured."""
        # A new table brings what is measured of its budgets.
        self.table(recover)
        return self.results.outcomes(self.mask, recover)

    @property
    def awaits_distillation(self) -> bool:
        """Whether a distilled model is asked for that there is not yet."""
        return RECOVERIES[self.recover].trains and self.outcomes(self.recover) is None

    @property
    def swept(self) -> str:
        """The recovery of the table that goes along with a run: one of distilled models has a few rows only."""
        return self.recover if RECOVERIES[self.recover].swept else NONE.name

    def speed(self) -> Speed | None:
        """Latency of the mask on the board, if it was timed."""
        return self.results.speed(self.mask)

    # Work on the board ---------------------------------------------------------------------------------------

    def start(self, kind: Kind[OnBoard, T]) -> Job[T]:
        """Let the worker do this for what is on the board."""
        return self.work.start(kind, self.on_board())

    def job(self, kind: Kind[OnBoard, T]) -> Job[T] | None:
        """The job of this kind for what is on the board, if it was asked for."""
        return self.work.job(kind, self.on_board())

    def on_board(self) -> OnBoard:
        """The subject of work on what is on the board now."""
        table = self.table(self.recover)
        return OnBoard(self.bench, self.results, self.mask, self.recover, table, watch=self._see)

    def _see(self, training: Training) -> None:
        self.training = training

    def collect(self) -> None:
        """Take over what a finished run found."""
        job = self.work.take(RUN)
        if job is None:
            return
        self.trouble = job.error
        if job.result is not None:
            run, clusters = job.result
            if not same_but_for_readings(run.document.settings, self.settings):
                return
            self.results = Results.of(run)
            self.results.add_clusters(run.document.settings, clusters)
            self.work.drop(FIGURE, DISTIL, SPEED, TABLE)

    def close(self) -> None:
        """Stop all work of this session."""
        self.work.close()
