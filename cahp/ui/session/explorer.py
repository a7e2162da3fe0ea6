"""One browser session: its model and data, its run, and the mask on its board.

Nothing of one session is reachable from another. What sessions share, loaded models and the bundled run, is keyed by
content and holds nobody's texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp import bundled as bundle
from cahp import models
from cahp.run.bench import Bench
from cahp.run.document import RunDocument, State
from cahp.run.prune import Run, choose, known, measure
from cahp.run.seal import TestSeal
from cahp.run.settings import Settings
from cahp.run.stopwatch import Stopwatch
from cahp.studies import budget_sweep as live
from cahp.studies.budget_sweep import BudgetTable, HeadClusters, Quality, Recover, Speed
from cahp.tasks.inspect import expected_seconds
from cahp.ui.session import jobs
from cahp.ui.session.opening import Source, is_loaded
from cahp.values import HeadMask, MaskError, ModelCard, Progress, Selection

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: What may change without making the bundled run another run: it only reads the same evidence differently.
_READINGS = ("budget", "poly_degree", "min_per_layer", "salience", "representative", "recover", "latency", "device")

#: What a run takes beside its texts: reading and proving the model, placing the heads, timing.
_OVERHEAD_S = 15.0


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

    quality: Quality
    opened: int


@dataclass(frozen=True)
class _Board:
    """What is on the board: a budget (None: what the curve suggests), or a mask made by hand."""

    budget: int | None = None
    hand: HeadMask | None = None


class Explorer:
    """What one person explores. See the attributes' comments for what pages may rely on."""

    def __init__(self, session_id: str, source: Source) -> None:
        self.id = session_id
        self.source = source
        #: The document of the current run (``cahp.run/1``), or None before the first. Its own settings are in it.
        self.run: RunDocument | None = None
        #: Its arrays; a bundled run ships the small ones only.
        self.arrays: Mapping[str, NDArray[Any]] = {}
        #: The bundled run, if that is what is shown: it was measured elsewhere.
        self.bundle: bundle.Bundle | None = None
        #: The bundled run was made with another model or data than are installed here, so it is not shown.
        self.outdated = False
        #: Why the last run failed, until a page has said so.
        self.trouble: str | None = None
        self.run_job: jobs.Job[Any] | None = None
        self.table_job: jobs.Job[BudgetTable] | None = None
        self.figure_job: jobs.Job[Quality] | None = None
        self.speed_job: jobs.Job[Speed] | None = None
        self._evidence: tuple[tuple[Any, ...], HeadClusters] | None = None
        self._tables: dict[tuple[Any, ...], BudgetTable] = {}
        self._quality: dict[tuple[str, Recover], Quality] = {}
        self._speed: dict[tuple[int, ...], Speed] = {}
        self.flip_job: jobs.Job[list[Flip]] | None = None
        self.confirm_job: jobs.Job[Confirmation] | None = None
        self._warm: jobs.Job[None] | None = None
        #: The head that was clicked or asked about last, as a flat index.
        self.selected: int | None = None
        #: What the page of the board shows below it.
        self.detail = "Where the heads lie"
        #: Whether the board shows pruned models as they are, or refitted.
        self.recover: Recover = "none"
        self._board, self._past = _Board(), list[_Board]()
        self._find_run()

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
    def bundled(self) -> bool:
        """Whether the run on screen ships with the package and was measured elsewhere."""
        return self.bundle is not None

    @property
    def settings_changed(self) -> bool:
        """Whether the settings are others than those of the run on screen."""
        return self.run is not None and self.settings != self.run.settings

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
        """Ask differently; what does not depend on the change stays known."""
        if "min_per_layer" in changes:
            # A layer without heads cannot be cut out, so such a model cannot be recovered.
            changes["recover"] = "refit" if changes["min_per_layer"] else "none"
        settings = replace(self.settings, **changes)
        if settings == self.settings:
            return
        self.source = self.source.with_settings(settings)
        if set(changes) - set(_READINGS):
            self.run, self.bundle, self._evidence = None, None, None
            self._find_run()
        self._stop_filling()

    def _find_run(self) -> None:
        found = known(self.bench)
        if found is not None:
            self.run, self.arrays, self.bundle = found.document, found.arrays, None
            return
        shipped = bundle.read()
        if shipped is None or not self._same_question(shipped.document.settings):
            return
        said = shipped.document
        theirs = (said.model.sha256, said.data.select.sha256, said.data.eval.sha256)
        if theirs == (self.card.sha256, self.bench.calibration.sha256, self.bench.evaluation.sha256):
            self.run, self.arrays, self.bundle = said, shipped.arrays, shipped
        else:
            self.outdated = True

    def _same_question(self, theirs: Settings) -> bool:
        ignored = (*_READINGS, "data", "label_map")
        same = all(ours == vars(theirs)[name] for name, ours in vars(self.settings).items() if name not in ignored)
        builtin = models.BUILTINS.get(self.settings.model)
        return same and builtin is not None and self.settings.data in (None, builtin.data)

    # What the choice follows from ----------------------------------------------------------------------------

    @property
    def evidence(self) -> HeadClusters | None:
        """What the choice of heads follows from, or None until a run has found it out."""
        settings = self.settings
        asked = (settings.projection, settings.salience, settings.poly_degree, settings.seed)
        if self._evidence is not None and self._evidence[0] == asked:
            return self._evidence[1]
        found: HeadClusters | None = None
        if self.bundle is not None:
            found = live.with_degree(self.bundle.evidence(settings.salience), settings.poly_degree)
        elif self.run is not None:
            # A run was here, so its stages are in the store; should they be gone, the worker makes them again.
            bench = self.bench
            bench = self.bench
            job = jobs.submit(
                self.id, f"evidence-{asked}", lambda _: HeadClusters.of(bench.evidence), rank=jobs.Rank.QUICK
            )
            job.wait(20.0)
            found = job.result
        if found is not None:
            self._evidence = (asked, found)
        return found

    @property
    def suggested(self) -> Selection | None:
        """What the bend of the curve suggests."""
        evidence = self.evidence
        return None if evidence is None else evidence.suggested(self.settings)

    def table(self, recover: Recover = "none") -> BudgetTable | None:
        """All budgets and what is known of them, or None before the first run."""
        evidence, settings = self.evidence, self.settings
        if evidence is None:
            return None
        name = (
            *(settings.projection, settings.salience, settings.min_per_layer, settings.representative, settings.seed),
            *(recover, self.bundled),
        )
        if name not in self._tables:
            table = BudgetTable.plan(evidence, settings, recover=recover)
            self._seed(table)
            self._tables[name] = table
        return self._tables[name]

    def _seed(self, table: BudgetTable) -> None:
        """Enter what is known already."""
        if self.bundle is not None:
            shipped = bundle.SETTINGS
            same = all(
                getattr(self.settings, name) == getattr(shipped, name)
                for name in ("salience", "min_per_layer", "representative")
            )
            if same and table.recover == self.bundle.rows["recover"]:
                table.fill_from(self.bundle.rows)
        if self.run is not None:
            full = Quality.of(self.run, "full")
            table.add(table.budgets[-1], quality=replace(full, agreement=1.0))

    # The mask on the board -----------------------------------------------------------------------------------

    @property
    def by_hand(self) -> bool:
        """Whether the mask on the board was made by hand."""
        return self._board.hand is not None

    @property
    def auto(self) -> bool:
        """Whether the curve's suggestion is on the board."""
        return self._board == _Board()

    @property
    def selection(self) -> Selection | None:
        """How the mask on the board came about, unless it was made by hand."""
        return None if self._board.hand is not None else self._of_budget()

    def _of_budget(self) -> Selection | None:
        table = self.table()
        if table is None:
            return None
        if self._board.budget is None:
            return self.suggested or table.selection(table.budgets[len(table.budgets) // 2])
        return table.selection(min(max(self._board.budget, table.budgets[0]), table.budgets[-1]))

    @property
    def labels(self) -> NDArray[np.int64]:
        """The cluster of each head, at as many clusters as the board's budget pays for."""
        evidence, selection = self.evidence, self.selection
        if evidence is None:
            raise ValueError("there are no clusters before the first run")
        if selection is None:
            # By hand: the clusters are those of the budget that it was made from.
            selection = self._of_budget()
        return evidence.groups(self.budget if selection is None or selection.k is None else selection.k)[0]

    @property
    def mask(self) -> HeadMask:
        """The mask on the board: of the budget, or made by hand; all heads before the first run."""
        if self._board.hand is not None:
            return self._board.hand
        selection = self.selection
        return HeadMask.full(self.card.layers, self.card.heads) if selection is None else selection.mask

    @property
    def budget(self) -> int:
        """How many heads the mask on the board keeps."""
        return self.mask.count

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._past)

    def set_budget(self, budget: int | None) -> None:
        """Put a budget on the board; None is what the curve suggests."""
        self._put(_Board(budget=budget))

    def set_mask(self, mask: HeadMask) -> None:
        """Put a mask of one's own on the board.

        Raises:
            MaskError: If it has another shape than the model, or empties a layer although the floor is above 0.
        """
        if (mask.layers, mask.heads) != (self.card.layers, self.card.heads):
            raise MaskError(
                f"The mask is for {mask.layers} x {mask.heads} heads, but {self.card.id} has {self.card.layers} x "
                f"{self.card.heads}; choose a mask that was made for this model."
            )
        if mask.empty_layers and self.settings.min_per_layer > 0:
            raise MaskError(
                f"Layer {mask.empty_layers[0]} would keep no head. A layer without heads cannot be cut out; "
                "set the floor to 0 to try it as a mask only."
            )
        if mask.count == 0:
            raise MaskError("At least one head must stay.")
        self._put(_Board(budget=self._board.budget, hand=mask))

    def toggle(self, head: int) -> None:
        """Drop a kept head, or bring a pruned one back."""
        keep = self.mask.keep.copy()
        keep.flat[head] = not keep.flat[head]
        self.set_mask(HeadMask(keep))

    def undo(self) -> None:
        """Take the last change of the board back."""
        if self._past:
            self._board = self._past.pop()

    def reset(self) -> None:
        """Back from a mask made by hand to the budget it was made from."""
        self._put(_Board(budget=self._board.budget))

    def _put(self, board: _Board) -> None:
        if board != self._board:
            self._past = [*self._past[-99:], self._board]
            self._board = board

    # Figures -------------------------------------------------------------------------------------------------

    def quality(self, recover: Recover = "none") -> Quality | None:
        """How the mask on the board answers, if that is known."""
        mask, table = self.mask, self.table(recover)
        found = self._quality.get((mask.sha256, recover))
        if found is None and table is not None and _is_of(table, mask):
            found = table.row(mask.count).quality
        if found is None and self.run is not None and self.run.is_of(mask):
            state: State = "pruned" if recover == "none" else "recovered"
            if state in self.run.metrics.measured and recover in ("none", self.run.settings.recover):
                found = Quality.of(self.run, state)
        if found is None and self.figure_job is not None and self.figure_job.key == self._figure_key(recover):
            found = self.figure_job.result
        if found is not None:
            self._quality[mask.sha256, recover] = found
        return found

    def measure(self, recover: Recover = "none") -> jobs.Job[Quality]:
        """Let the worker find out how the mask on the board answers."""
        bench, mask, table = self.bench, self.mask, self.table(recover)
        key = self._figure_key(recover)
        if self.figure_job is not None and self.figure_job.key != key:
            # Nobody waits for a mask that is not on the board any more.
            self.figure_job.cancel()

        def work(_: Progress) -> Quality:
            found = live.quality(bench, mask, recover=recover)
            if table is not None and _is_of(table, mask):
                table.add(mask.count, quality=found)
            return found

        self.figure_job = jobs.submit(self.id, key, work, rank=jobs.Rank.QUICK)
        return self.figure_job

    def _figure_key(self, recover: Recover) -> str:
        return f"figure-{self.mask.sha256}-{recover}"

    def speed(self) -> Speed | None:
        """Latency of the mask on the board, if it was timed. It depends on the heads of each layer, not on which."""
        mask = self.mask
        counts = tuple(len(heads) for heads in mask.by_layer)
        found = self._speed.get(counts)
        table = self.table()
        if found is None and table is not None and mask.count >= table.budgets[0]:
            theirs = table.selection(mask.count).mask
            if tuple(len(heads) for heads in theirs.by_layer) == counts:
                found = table.row(mask.count).speed
        run = self.run
        if found is None and run is not None and run.is_of(mask) and run.latency_ratio is not None:
            found = Speed.of(run.latency_ratio, run.cost.full, run.cost.pruned)
        if found is None and self.speed_job is not None and self.speed_job.key == f"speed-{counts}":
            found = self.speed_job.result
        if found is not None:
            self._speed[counts] = found
        return found

    def time(self) -> jobs.Job[Speed]:
        """Let the worker time the mask on the board, in a process of its own."""
        bench, mask = self.bench, self.mask
        counts = tuple(len(heads) for heads in mask.by_layer)

        def work(progress: Progress) -> Speed:
            with Stopwatch(bench.settings.model, device=bench.settings.device, store=bench.resources.store) as watch:
                return live.timed(watch, bench, mask, progress)

        self.speed_job = jobs.submit(self.id, f"speed-{counts}", work)
        return self.speed_job

    def flips(self, recover: Recover = "none") -> jobs.Job[list[Flip]]:
        """Let the worker find the texts whose answer the mask on the board changes."""
        bench, mask = self.bench, self.mask

        def work(_: Progress) -> list[Flip]:
            from cahp.stages.evaluation import flipped

            recovered = bench.measurements.refit(mask) if recover == "refit" else None
            full = bench.measurements.evaluate(bench.evaluation)
            pruned = bench.measurements.evaluate(bench.evaluation, mask=mask, recovered=recovered)
            classes, inputs = bench.evaluation.classes, bench.evaluation.inputs
            return [
                Flip(
                    inputs[row] if isinstance(inputs[row], str) else " ⸱ ".join(inputs[row]),
                    *(classes[side[row]] for side in (bench.evaluation.labels, full.predictions, pruned.predictions)),
                )
                for row in flipped(pruned, full)
            ]

        self.flip_job = jobs.submit(self.id, f"flips-{mask.sha256}-{recover}", work, rank=jobs.Rank.QUICK)
        return self.flip_job

    def confirm(self, recover: Recover = "none") -> jobs.Job[Confirmation]:
        """Let the worker judge the mask on the board by the test split, which counts as one look at it."""
        bench, mask = self.bench, self.mask

        def work(_: Progress) -> Confirmation:
            test = replace(bench, evaluation=bench.dataset.split("test"))
            found = live.quality(test, mask, recover=recover)
            return Confirmation(found, TestSeal(bench.card, bench.dataset, bench.resources.store).open())

        self.confirm_job = jobs.submit(self.id, f"confirm-{mask.sha256}-{recover}", work, rank=jobs.Rank.QUICK)
        return self.confirm_job

    def pending(self) -> bool:
        """Whether anything is under way that will change what a page shows."""
        own = (self.figure_job, self.speed_job, self.table_job, self.flip_job, self.confirm_job)
        return any(job is not None and not job.ended for job in own)

    # Long work -----------------------------------------------------------------------------------------------

    def start_run(self) -> jobs.Job[Any]:
        """Measure on this machine: the whole run, then the evidence that the board needs."""
        bench = self.bench

        def work(progress: Progress) -> tuple[Run, HeadClusters]:
            selection = choose(bench)
            if bench.settings.latency and not selection.mask.empty_layers:
                # In a process of its own; the run then finds it in the store.
                with Stopwatch(
                    bench.settings.model, device=bench.settings.device, store=bench.resources.store
                ) as watch:
                    watch.costs(selection.mask, length=bench.length, progress=progress)
            return measure(bench), HeadClusters.of(bench.evidence)

        self.run_job = jobs.submit(self.id, "run", work, expected=self.expected_seconds)
        return self.run_job

    def _tokens(self) -> int:
        # About 1.3 tokens a word, what the selection texts cost once, and the texts to judge by twice.
        texts, judged = self.bench.calibration, self.bench.evaluation
        words = sum(len(text.split()) for text in texts.first) + 2 * sum(len(text.split()) for text in judged.first)
        return int(1.3 * words) + 4 * (len(texts) + 2 * len(judged))

    @property
    def expected_seconds(self) -> float | None:
        """About how long a run takes here."""
        seconds = expected_seconds(self.card, tokens=self._tokens())
        return None if seconds is None else seconds + _OVERHEAD_S

    def fill(self, recover: Recover = "none") -> jobs.Job[BudgetTable] | None:
        """Let the worker fill the table of all budgets behind the scenes; None if there is nothing to fill."""
        table, bench = self.table(recover), self.bench
        if table is None or table.missing() is None:
            return None
        self.table_job = jobs.submit(
            self.id,
            f"table-{id(table)}",
            lambda progress: live.fill(table, bench, progress),
            rank=jobs.Rank.BACKGROUND,
            headline="table",
        )
        return self.table_job

    def warm(self) -> None:
        """Have the model read and the full model's answers at hand, before anybody asks for a mask of their own."""
        if self._warm is None:
            bench = self.bench

            def work(progress: Progress) -> None:
                progress("load", int(bench.model.layers > 0), 1)
                progress("evaluation", len(bench.full), len(bench.evaluation))

            self._warm = jobs.submit(self.id, "warm", work, rank=jobs.Rank.BACKGROUND)

    def _stop_filling(self) -> None:
        if self.table_job is not None and not self.table_job.ended:
            self.table_job.cancel()
        self.table_job = None

    def collect(self) -> None:
        """Take over what a finished run found."""
        job = self.run_job
        if job is None or not job.ended:
            return
        self.run_job, self.trouble = None, job.error
        if job.result is not None:
            run, evidence = job.result
            self._stop_filling()
            self.run, self.arrays, self.bundle, self.outdated = run.document, run.arrays, None, False
            settings = self.settings
            asked = (settings.projection, settings.salience, settings.poly_degree, settings.seed)
            self._evidence = (asked, evidence)
            self._tables, self._quality, self._speed = {}, {}, {}
            self.figure_job = self.speed_job = None

    def close(self) -> None:
        """Stop all work of this session."""
        for job in jobs.unfinished(self.id):
            job.cancel()


def _is_of(table: BudgetTable, mask: HeadMask) -> bool:
    """Whether the mask is the one that the table has for its budget."""
    return mask.count >= table.budgets[0] and table.selection(mask.count).mask.sha256 == mask.sha256
