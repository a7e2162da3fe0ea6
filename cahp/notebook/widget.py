"""The widget: a run's board that answers while it is dragged, and whose kernel measures what is released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

import anywidget
import traitlets

from cahp.board import Event, Shown, contents, script, style
from cahp.board.state import Board, Choices
from cahp.files import plain_json
from cahp.notebook.background import Background, Doing
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE
from cahp.run.bench import Bench, open_bench
from cahp.run.document import RunDocument
from cahp.studies import filling
from cahp.studies.budget_sweep import BudgetTable, Speed
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.table_file import own_outcomes
from cahp.values import CahpError, HeadMask, ModelError, Progress

_HERE = Path(__file__).parent


@cache
def _host(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


class BudgetBoard(anywidget.AnyWidget):
    """A run's budget board. Dragging answers from its table; what is released or clicked is measured in the background.

    Attributes:
        budget: How many heads the mask on the board keeps. Setting it moves the board, and measures.
        mask: The mask on the board, ``mask.keep (layers, heads)`` bool. Setting it puts one of your own on it.
        outcomes: The outcomes of the mask by name (None: being measured, or stopped).

    ``observe(function, "mask")`` and ``"budget"`` tell of every change. What is measured here has its own bench, so
    that cells may go on with the run's.
    """

    _esm = script(_host("host.js"))
    _css = _host("host.css") + style()
    data = traitlets.Dict().tag(sync=True)
    doing = traitlets.Dict().tag(sync=True)
    budget = traitlets.Int()
    mask = traitlets.Instance(HeadMask)
    outcomes: Any = traitlets.Dict(allow_none=True)

    def __init__(self, run: RunDocument, bench: Bench, clusters: HeadClusters, table: BudgetTable) -> None:
        self._run, self._bench, self._clusters, self._table = run, bench, clusters, table
        self._choices = Choices(bench.card, bench.settings, clusters, table)
        self._board = Board(lambda: self._choices, mask=run.mask)
        self._found: dict[str, Outcomes] = {}
        measured = own_outcomes(run, table.recover)
        if measured is not None:
            self._found[run.mask.sha256] = measured
        self._selected: int | None = None
        self._measuring = self._sweeping = False
        self._background = Background(self._told)
        self._own: Bench | None = None
        # The kernel's thread and the one that measures both change what is shown.
        self._lock = RLock()
        super().__init__(doing=asdict(Doing()))
        self._show()
        self.on_msg(self._heard)

    @property
    def table(self) -> BudgetTable:
        """All budgets, and what is measured of them."""
        return self._table

    # What a person does, here or in a cell -------------------------------------------------------------------

    def undo(self) -> None:
        """Take the last change back."""
        with self._lock:
            self._board.undo()
            self._moved()

    def sweep(self) -> None:
        """Measure every budget in the background, accuracy and time; ``stop`` ends it and keeps what was measured."""
        self._sweeping = True
        self._background.start(self._work)

    def stop(self) -> None:
        """Stop measuring."""
        self._sweeping = False
        self._background.stop()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is being measured; whether that came true in time."""
        return self._background.wait(seconds)

    @traitlets.observe("budget")
    def _budget_set(self, change: Any) -> None:
        with self._lock:
            if change.new != self._board.budget:
                self._board.set_budget(change.new)
                self._moved()

    @traitlets.observe("mask")
    def _mask_set(self, change: Any) -> None:
        with self._lock:
            if change.new.sha256 != self._board.mask.sha256:
                self._board.set_mask(change.new)
                self._moved()

    @traitlets.validate("budget")
    def _possible_budget(self, proposal: Any) -> int:
        count: int = proposal.value
        if count != self._board.budget:
            self._table.selection(count)
        return count

    @traitlets.validate("mask")
    def _possible_mask(self, proposal: Any) -> HeadMask:
        mask: HeadMask = proposal.value
        if mask.sha256 != self._board.mask.sha256:
            self._choices.check(mask)
        return mask

    def _heard(self, _: Any, said: Any, __: Any) -> None:
        asked: dict[str, Callable[[], None]] = {"stop": self.stop, "sweep": self.sweep, "undo": self.undo}
        if said.get("kind") in asked:
            asked[said["kind"]]()
            return
        event = Event.of(said)
        with self._lock:
            try:
                if event.kind == "budget":
                    self._board.set_budget(event.budget)
                else:
                    self._selected = event.head
                    if event.kind == "toggle":
                        self._board.toggle(event.head)
            except CahpError as error:
                self.doing = asdict(Doing(error=str(error)))
                return
            self._moved()

    # Measuring and showing -----------------------------------------------------------------------------------

    def _moved(self) -> None:
        """Something else is on the board."""
        if self._known(self._board.mask) is None:
            self._measuring = True
            self._background.start(self._work)
        self._show()

    def _work(self, progress: Progress) -> None:
        """Measure what is on the board, and then every budget, if so asked."""
        if self._own is None:
            own = open_bench(self._bench.settings, store=self._bench.resources.store)
            if own.card.sha256 != self._bench.card.sha256:
                raise ModelError(f"{own.settings.model} is no longer the model of this run; prune it again")
            self._own = own
        bench, mask = self._own, self._board.mask
        bench.resources.progress = progress
        if self._known(mask) is None:
            progress("evaluation", 0, 1)
            found = filling.measure_mask(bench, mask, recover=NONE.name if mask.empty_layers else self._table.recover)
            self._found[mask.sha256] = found
            if self._table.has(mask):
                self._table.add(mask.count, outcomes=found)
            self._measuring = False
            self._show()
        if self._sweeping:
            for _ in filling.fill(self._table, bench, progress):
                self._show()

    def _known(self, mask: HeadMask) -> Outcomes | None:
        row = self._table.row(mask.count) if self._table.has(mask) else None
        return self._found.get(mask.sha256) if row is None or row.outcomes is None else row.outcomes

    def _timed(self, mask: HeadMask) -> Speed | None:
        ratio = self._run.latency_ratio
        if mask.sha256 == self._run.mask.sha256 and ratio is not None:
            return Speed.of(ratio, self._run.cost.full, self._run.cost.pruned)
        return self._table.row(mask.count).speed if self._table.has(mask) else None

    def _show(self) -> None:
        with self._lock:
            board, labels = self._board, self._board.labels
            mask, selection = board.mask, board.selection
            found = self._known(mask)
            origin = "hand" if board.by_hand else "auto" if board.auto else "budget"
            rescued = () if selection is None else selection.rescued
            data = contents(
                self._table,
                self._clusters,
                Shown(mask, origin, found, self._timed(mask), rescued=rescued),
                labels=labels,
                selected=self._selected,
                status="being measured…" if self._measuring else "",
                chance=self._run.data.eval.most_frequent,
            )
            self.data = plain_json(data | {"undo": board.can_undo})
            self.mask, self.budget, self.outcomes = mask, mask.count, None if found is None else dict(found)

    def _told(self, doing: Doing) -> None:
        self.doing = asdict(doing)
        if not doing.running:
            self._measuring = self._sweeping = False
            self._show()
