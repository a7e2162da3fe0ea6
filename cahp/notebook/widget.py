"""The widget: a run's budget board, and a thread of the kernel that measures what is released on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from cahp.board import BoardSubject, Event, Host, Shown, budget_sweep, contents, script, style
from cahp.board.budget_sweep import BudgetTable, own_outcomes, own_speed
from cahp.board.colourings import Coloured
from cahp.board.head_clusters import HeadClusters
from cahp.board.state import Board, Choices
from cahp.files import plain_json
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE
from cahp.run.bench import Bench, open_bench
from cahp.run.document import RunDocument
from cahp.run.resources import on_screen
from cahp.values import CahpError, Cancelled, HeadMask, ModelError, Progress

_HERE = Path(__file__).parent


def _doing(stage: str = "", done: int = 0, total: int = 0, error: str = "") -> dict[str, Any]:
    """Describe the work for the widget's script: its stage and how much of that is done, or why it failed."""
    return {"stage": stage, "done": done, "total": total, "error": error}


class Background:
    """A thread that does the latest work; it calls ``report`` with its progress, without a stage when it has ended."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._report = report
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def start(self, work: Callable[[Progress], None]) -> None:
        """Stop the work in progress, then do this."""
        self._stop.set()
        before = self._thread
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work, self._stop, before), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the work in progress; its measurements so far are kept."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no work is in progress; return whether that was in time."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _run(self, work: Callable[[Progress], None], stop: threading.Event, before: threading.Thread | None) -> None:
        if before is not None:
            before.join()

        def progress(stage: str, done: int, total: int) -> None:
            if stop.is_set():
                raise Cancelled
            self._report(_doing(on_screen(stage), done, total))

        error = "the measurement failed; see the kernel's log"
        try:
            progress("load", 0, 1)
            work(progress)
            error = ""
        except Cancelled:
            error = ""
        except CahpError as failure:
            error = str(failure)
        finally:
            if stop is self._stop:
                self._report(_doing(error=error))


class BudgetBoard(anywidget.AnyWidget):
    """A run's budget board. Dragging reads its table; a released budget or clicked head is measured in the background.

    Attributes:
        budget: The number of heads that the mask on the board keeps. Setting it shows and measures another budget.
        mask: The mask on the board, ``mask.keep (layers, heads)`` bool. Setting it shows and measures your own mask.
        outcomes: The outcomes of the mask by name (None: being measured, or stopped).
        table: All budgets with their measurements.

    ``observe(function, "mask")`` or ``"budget"`` reports every change. Measurements use a bench of their own, so that
    cells can use the run's meanwhile.
    """

    _esm = script((_HERE / "host.js").read_text(encoding="utf-8"))
    _css = (_HERE / "host.css").read_text(encoding="utf-8") + style()
    data = traitlets.Dict().tag(sync=True)
    doing = traitlets.Dict().tag(sync=True)
    budget = traitlets.Int()
    mask = traitlets.Instance(HeadMask)
    outcomes: Any = traitlets.Dict(allow_none=True)

    def __init__(
        self,
        run: RunDocument,
        bench: Bench,
        clusters: HeadClusters,
        table: BudgetTable,
        colourings: Sequence[Coloured[Any]] = (),
    ) -> None:
        self._run = run
        self._bench = bench
        self._clusters = clusters
        self.table = table
        self._colourings = colourings
        self._choices = Choices(bench.card, bench.settings, clusters, table)
        self._board = Board(lambda: self._choices, mask=run.mask)
        self._measured: dict[str, Outcomes] = {}
        #: Outcomes on the texts so far, of masks that are being measured.
        self._glimpses: dict[str, Outcomes] = {}
        measured = own_outcomes(run, table.recover)
        if measured is not None:
            self._measured[run.mask.sha256] = measured
        self._selected: int | None = None
        self._measuring = self._sweeping = False
        self._background = Background(self._report)
        self._own: Bench | None = None
        # The kernel's thread and the measuring thread both change what is shown.
        self._lock = threading.RLock()
        super().__init__(doing=_doing())
        self._show()
        self.on_msg(self._handle)

    # Actions of a person, on the board or in a cell ----------------------------------------------------------

    def undo(self) -> None:
        """Undo the last change."""
        with self._lock:
            self._board.undo()
            self._show_change()

    def sweep(self) -> None:
        """Measure accuracy and time of every budget in the background; ``stop`` ends it and keeps the measurements."""
        self._sweeping = True
        self._background.start(self._work)

    def stop(self) -> None:
        """Stop measuring."""
        self._sweeping = False
        self._background.stop()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until no measurement is in progress; return whether that was in time."""
        return self._background.wait(seconds)

    @traitlets.observe("budget", "mask")
    def _follow_cell(self, change: Any) -> None:
        with self._lock:
            if change.name == "budget" and change.new != self._board.budget:
                self._board.set_budget(change.new)
            elif change.name == "mask" and change.new.sha256 != self._board.mask.sha256:
                self._board.set_mask(change.new)
            else:
                return
            self._show_change()

    @traitlets.validate("budget")
    def _check_budget(self, proposal: Any) -> int:
        count: int = proposal.value
        if count != self._board.budget:
            self.table.selection(count)
        return count

    @traitlets.validate("mask")
    def _check_mask(self, proposal: Any) -> HeadMask:
        mask: HeadMask = proposal.value
        if mask.sha256 != self._board.mask.sha256:
            self._choices.check(mask)
        return mask

    def _handle(self, _: Any, message: Any, __: Any) -> None:
        buttons: dict[str, Callable[[], None]] = {"stop": self.stop, "sweep": self.sweep, "undo": self.undo}
        if message.get("kind") in buttons:
            buttons[message["kind"]]()
            return
        event = Event.of(message)
        with self._lock:
            try:
                if event.kind == "budget":
                    self._board.set_budget(event.budget)
                else:
                    self._selected = event.head
                    if event.kind == "toggle":
                        self._board.toggle(event.head)
            except CahpError as error:
                self.doing = _doing(error=str(error))
                # Other data make the board show the mask again: it drew a pressed head at once.
                self.data = {**self.data, "refused": self.data.get("refused", 0) + 1}
                return
            self._show_change()

    # Measuring and showing -----------------------------------------------------------------------------------

    def _show_change(self) -> None:
        """Show and measure what is on the board now."""
        if self._outcomes_of(self._board.mask) is None:
            self._measuring = True
            self._background.start(self._work)
        self._show()

    def _work(self, progress: Progress) -> None:
        """Measure the mask on the board, and then every budget, if that was started."""
        if self._own is None:
            own = open_bench(self._bench.settings, store=self._bench.resources.store)
            if own.card.sha256 != self._bench.card.sha256:
                raise ModelError(f"{own.settings.model} is no longer the model of this run. Prune it again.")
            self._own = own
        bench = self._own
        mask = self._board.mask
        bench.resources.listener = progress
        if self._outcomes_of(mask) is None:
            progress("evaluation", 0, 1)

            def show_part(outcomes: Outcomes) -> None:
                self._glimpses[mask.sha256] = outcomes
                self._show()

            recover = self.table.recover if bench.measurements.can_cut(mask) else NONE.name
            outcomes = budget_sweep.evaluate_mask(bench, mask, recover=recover, on_part=show_part)
            self._measured[mask.sha256] = outcomes
            if self.table.has(mask):
                self.table.add(mask.count, outcomes=outcomes)
            self._measuring = False
            self._show()
        if self._sweeping:
            for _ in budget_sweep.fill(self.table, bench, progress):
                self._show()

    def _outcomes_of(self, mask: HeadMask) -> Outcomes | None:
        if self.table.has(mask):
            outcomes = self.table.row(mask.count).outcomes
            if outcomes is not None:
                return outcomes
        return self._measured.get(mask.sha256)

    def _show(self) -> None:
        with self._lock:
            board = self._board
            run = self._run
            mask = board.mask
            outcomes = self._outcomes_of(mask)
            speed = None
            if self.table.has(mask):
                speed = self.table.row(mask.count).speed
            if mask.sha256 == run.mask.sha256:
                speed = own_speed(run) or speed
            glimpse = self._glimpses.get(mask.sha256)
            status = "being measured…" if self._measuring else ""
            data = contents(
                self.table,
                self._clusters,
                Shown(mask, board.origin, outcomes, speed, rescued=board.rescued, glimpse=glimpse),
                labels=board.labels,
                subject=BoardSubject.of(run),
                host=Host(selected=self._selected, status=status, colourings=self._colourings),
            )
            self.data = plain_json(data | {"undo": board.can_undo})
            self.mask = mask
            self.budget = mask.count
            if outcomes is None:
                self.outcomes = None
            else:
                self.outcomes = dict(outcomes)

    def _report(self, doing: dict[str, Any]) -> None:
        self.doing = doing
        if not doing["stage"]:
            self._measuring = self._sweeping = False
            self._show()
