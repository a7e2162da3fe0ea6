"""The widget: a run's budget board, and a thread of the kernel that measures what is released on it."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from cahp.board import BoardSubject, Event, Host, Shown, budget_sweep, contents, script, style
from cahp.board.budget_sweep import BudgetTable, own_outcomes, own_speed
from cahp.board.colourings import Coloured
from cahp.board.head_clusters import HeadClusters
from cahp.board.state import Board, Choices
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE
from cahp.run.bench import Bench, open_bench
from cahp.run.document import RunDocument
from cahp.run.resources import on_screen
from cahp.values import CahpError, Cancelled, HeadMask, JsonObject, ModelError, Progress

_HERE = Path(__file__).parent


def _doing(stage: str = "", done: int = 0, total: int = 0, error: str = "") -> JsonObject:
    """Describe the work for the widget's script: its stage and how much of that is done, or why it failed."""
    return {"stage": stage, "done": done, "total": total, "error": error}


class BudgetBoard(anywidget.AnyWidget):
    """A run's budget board. Dragging reads its table; a released budget or changed mask is measured in the background.

    Measurements use a bench of their own, so that cells can use the run's meanwhile.

    Attributes:
        table: All budgets with their measurements.
    """

    _esm = script((_HERE / "host.js").read_text(encoding="utf-8"))
    _css = (_HERE / "host.css").read_text(encoding="utf-8") + style()
    data = traitlets.Dict().tag(sync=True)
    doing = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        run: RunDocument,
        bench: Bench,
        clusters: HeadClusters,
        table: BudgetTable,
        colourings: Sequence[Coloured] = (),
    ) -> None:
        self._run = run
        self._bench = bench
        self._clusters = clusters
        self.table = table
        self._colourings = colourings
        self._choices = Choices(bench.card, bench.settings, clusters, table)
        self._board = Board(lambda: self._choices, mask=run.mask)
        self._measured: dict[str, Outcomes] = {}
        measured = own_outcomes(run, table.recover)
        if measured is not None:
            self._measured[run.mask.sha256] = measured
        self._own: Bench | None = None
        self._sweeping = False
        #: The thread that measures (None: none does), and what stops it.
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        # The kernel's thread and the measuring thread both change what is shown.
        self._lock = threading.RLock()
        super().__init__(doing=_doing())
        self._show()
        self.on_msg(self._handle)

    # Actions of a person, on the board or in a cell ----------------------------------------------------------

    @property
    def budget(self) -> int:
        """The number of heads that the mask on the board keeps. Setting it shows and measures another budget."""
        return self._board.budget

    @budget.setter
    def budget(self, budget: int) -> None:
        self.table.selection(budget)
        self._board.set_budget(budget)
        self._show_change()

    @property
    def mask(self) -> HeadMask:
        """The mask on the board. Setting it shows and measures your own mask."""
        return self._board.mask

    @mask.setter
    def mask(self, mask: HeadMask) -> None:
        self._board.set_mask(mask)
        self._show_change()

    @property
    def outcomes(self) -> Outcomes | None:
        """The outcomes of the mask by name (None: being measured, or stopped)."""
        if self.table.has(self.mask):
            outcomes = self.table.row(self.budget).outcomes
            if outcomes is not None:
                return outcomes
        return self._measured.get(self.mask.sha256)

    def sweep(self) -> None:
        """Measure accuracy and time of every budget in the background; ``stop`` ends it and keeps the measurements."""
        self._sweeping = True
        self._start()

    def stop(self) -> None:
        """Stop measuring."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no measurement is in progress; return whether that was in time."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _handle(self, _: Any, message: Any, __: Any) -> None:
        """Change the board as its script tells."""
        if message["kind"] == "stop":
            self.stop()
            return
        if message["kind"] == "sweep":
            self.sweep()
            return
        event = Event.of(message)
        try:
            with self._lock:
                if event.kind == "undo":
                    self._board.undo()
                elif event.kind == "budget":
                    self._board.set_budget(event.budget)
                elif event.kind == "toggle":
                    self._board.toggle(event.head)
                self._show_change()
        except CahpError as error:
            self.doing = _doing(error=str(error))
            # Other data make the board show the mask again: it drew a pressed head at once.
            self.data = {**self.data, "refused": self.data.get("refused", 0) + 1}

    # Measuring and showing -----------------------------------------------------------------------------------

    def _show_change(self) -> None:
        """Show and measure what is on the board now."""
        if self.outcomes is None:
            self._start()
        self._show()

    def _start(self) -> None:
        """Stop the work in progress, then measure what is on the board."""
        self._stop.set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(self._stop, self._thread), daemon=True)
        self._thread.start()

    def _work(self, stop: threading.Event, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()

        def progress(stage: str, done: int, total: int) -> None:
            if stop.is_set():
                raise Cancelled
            self.doing = _doing(on_screen(stage), done, total)

        error = "the measurement failed; see the kernel's log"
        try:
            self._measure(progress)
            error = ""
        except (Cancelled, CahpError) as failure:
            error = str(failure)
        finally:
            # Newer work goes on, and tells of itself.
            if stop is self._stop:
                stop.set()
                self._sweeping = False
                self.doing = _doing(error=error)
                self._show()

    def _measure(self, progress: Progress) -> None:
        """Measure the mask on the board, and then every budget, if that was started."""
        progress("load", 0, 1)
        if self._own is None:
            own = open_bench(self._bench.settings, store=self._bench.resources.store)
            if own.card.sha256 != self._bench.card.sha256:
                raise ModelError(f"{own.settings.model} is no longer the model of this run. Prune it again.")
            self._own = own
        bench = self._own
        bench.resources.listener = progress
        mask = self.mask
        if self.outcomes is None:
            recover = NONE.name
            if bench.measurements.can_cut(mask):
                recover = self.table.recover
            outcomes = budget_sweep.evaluate_mask(bench, mask, recover=recover)
            self._measured[mask.sha256] = outcomes
            if self.table.has(mask):
                self.table.add(mask.count, outcomes=outcomes)
            self._show()
        if self._sweeping:
            for _ in budget_sweep.fill(self.table, bench, progress):
                self._show()

    def _show(self) -> None:
        with self._lock:
            board = self._board
            mask = board.mask
            outcomes = self.outcomes
            speed = None
            if self.table.has(mask):
                speed = self.table.row(mask.count).speed
            if mask.sha256 == self._run.mask.sha256:
                speed = own_speed(self._run) or speed
            status = ""
            if outcomes is None and not self._stop.is_set():
                status = "being measured…"
            data = contents(
                self.table,
                self._clusters,
                Shown(mask, board.origin, outcomes, speed, rescued=board.rescued),
                labels=board.labels,
                subject=BoardSubject.of(self._run),
                host=Host(status=status, colourings=self._colourings),
            )
            self.data = data | {"undo": board.can_undo}
