"""The results on screen: a run, its clusters and budget tables, and the measurements of single masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cahp import models
from cahp.api import bundled
from cahp.api.bundled import Bundle
from cahp.board.budget_sweep import BudgetTable, Speed, enter_full, own_outcomes, own_speed
from cahp.board.contents import BoardSubject
from cahp.board.head_clusters import HeadClusters
from cahp.features import measures
from cahp.models.cards import Costs
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE, RECOVERIES, DistillReport
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.evidence import NullCurves
from cahp.run.prune import read_run
from cahp.run.recoveries import RecoveryStep
from cahp.run.settings import AFTERWARDS, CHOOSING, Salience, Settings, key_fields
from cahp.stages.selection import middle_budget
from cahp.values import Arrays, HeadMask, JsonObject

T = TypeVar("T")

#: What the time of a model depends on: the heads in each layer, and whether there is a bypass.
_Shape = tuple[int | bool, ...]
#: The digest of a mask, and the recovery after it.
_Measured = tuple[str, str]
#: Settings that may change without a new run: they only interpret the same evidence differently.
INTERPRETATIONS = frozenset((*CHOOSING, *AFTERWARDS, "device")) - {"method", "select_time"}


class Results:
    """The results of one run, and of masks of the same model on the same texts.

    Another run has another instance: measurements that are still in progress for this one then end up unused.
    """

    def __init__(
        self,
        run: RunDocument | None = None,
        arrays: Arrays | None = None,
        *,
        bundle: Bundle | None = None,
    ) -> None:
        #: The document of the run on screen (``cahp.run/1``) with its settings, or None before the first run.
        self.run = run
        #: Its arrays; a bundled run has the small ones only.
        self.arrays: Arrays = arrays or {}
        #: The bundled run, if it is on screen: it was measured on another machine.
        self.bundle = bundle
        self.bundled = bundle is not None
        #: The silhouette curves of unstructured data (None: not computed).
        self.null: NullCurves | None = None
        if "mss_null" in self.arrays:
            self.null = NullCurves(self.arrays["ks"], self.arrays["mss_null"])
        #: What a board of this run is about.
        self.subject = BoardSubject()
        #: What the session and features keep with these results, by names of their own.
        self.memory: JsonObject = {}
        #: What features measured of single masks: by the name of its section, the digest of the mask, its recovery.
        self.records: dict[tuple[str, str, str], Any] = {}
        #: By digest of a mask, the report of its distillation and the steps of the whole recovery.
        self.distilled: dict[str, tuple[DistillReport, tuple[RecoveryStep, ...]]] = {}
        #: Outcomes on the texts so far, of masks that are being measured, by mask and recovery.
        self.glimpses: dict[_Measured, Outcomes] = {}
        self._outcomes: dict[_Measured, Outcomes] = {}
        #: Keys of ``_outcomes`` whose figures ship with the package.
        self._shipped: set[_Measured] = set()
        self._speed: dict[_Shape, Speed] = {}
        self._costs: dict[_Shape, Costs] = {}
        self._tables: dict[tuple[Any, ...], BudgetTable] = {}
        self._clusters: dict[tuple[Salience, int], HeadClusters] = {}
        if bundle is not None:
            self._clusters = bundle.clusters
        if run is None:
            return
        self.subject = BoardSubject.of(run)
        # The figures of the run's own mask.
        for recover in (NONE.name, run.settings.recover):
            outcomes = own_outcomes(run, recover)
            if outcomes is not None and not RECOVERIES[recover].trains:
                self.add(run.mask, recover, outcomes)
        speed = own_speed(run)
        if speed is not None:
            self.add(run.mask, run.settings.recover, speed)
        if bundle is not None:
            self._shipped.update(self._outcomes)

    def once(self, name: str, read: Callable[[], T]) -> T:
        """Return what ``read`` finds in the store; it looks once, because a released budget must not wait for it."""
        if name not in self.memory:
            self.memory[name] = read()
        found: T = self.memory[name]
        return found

    @classmethod
    def load(cls, bench: Bench) -> Results:
        """Load earlier results for these settings: those of this machine, or else the bundled ones."""
        settings = bench.settings
        cached = read_run(bench, measures=measures())
        if cached is None and settings.budget == "auto":
            halved = read_run(at_half(bench), measures=measures())
            # Where there is a knee, it decides.
            if halved is not None and halved.document.knee is None:
                cached = halved
        if cached is not None:
            return cls(cached.document, cached.arrays)
        shipped = bundled.read_run(settings.model)
        if shipped is None or settings.data not in (None, models.BUILTINS[settings.model].data):
            return cls()
        run = shipped.document
        digests = (run.model.sha256, run.data.select.sha256, run.data.eval.sha256)
        same = same_evidence(settings, run.settings, ignored=("data", "label_map"))
        if not same or digests != (bench.card.identity, bench.calibration.sha256, bench.evaluation.sha256):
            return cls()
        return cls(run, shipped.arrays, bundle=shipped)

    # Clusters and tables -------------------------------------------------------------------------------------

    def clusters(self, settings: Settings) -> HeadClusters | None:
        """Return the clusters from which heads are chosen (None: there is no run)."""
        key = (settings.salience, settings.poly_degree)
        if key not in self._clusters and self.run is not None and "labels_of_k" in self.arrays:
            clusters = HeadClusters.of_arrays(self.arrays, self.run, settings.salience)
            self._clusters[key] = clusters.with_degree(settings.poly_degree)
        return self._clusters.get(key)

    def table(self, settings: Settings, recover: str = "none") -> BudgetTable | None:
        """Return all budgets with their measurements, or None while there are no clusters."""
        clusters = self.clusters(settings)
        if clusters is None:
            return None
        key = (*_of_table(settings), recover)
        if key not in self._tables:
            row = RECOVERIES[recover]
            timing = None
            if recover != NONE.name and not row.adds_bypass:
                timing = self.table(settings)
            quicker = None
            if row.at_once:
                quicker = self.table(settings, row.at_once)
            table = BudgetTable(
                clusters.selections(settings),
                recover=recover,
                listener=lambda mask, measured: self.add(mask, recover, measured),
                timed=self.run is None or self.run.saves_time,
                timing=timing,
                quicker=quicker,
            )
            bundle = self.bundle
            if bundle is not None and recover in bundle.tables and key[:-1] == _of_table(bundle.document.settings):
                rows = bundle.tables[recover]
                table.fill_from(rows)
                budgets = map(int, rows["outcomes"])
                self._shipped.update((table.selection(budget).mask.sha256, recover) for budget in budgets)
            if self.run is not None:
                enter_full(table, self.run)
            self._tables[key] = table
        return self._tables[key]

    # Figures -------------------------------------------------------------------------------------------------

    def outcomes(self, mask: HeadMask, recover: str = "none") -> Outcomes | None:
        """Return the measured outcomes of the model under ``mask``, if there are any."""
        return self._outcomes.get((mask.sha256, recover))

    def ships(self, mask: HeadMask, recover: str) -> bool:
        """Return whether the figures of ``outcomes`` ship with the package, so were measured on another machine."""
        return self.bundle is not None and (mask.is_full or (mask.sha256, recover) in self._shipped)

    def speed(self, mask: HeadMask, recover: str = "none") -> Speed | None:
        """Return the latency of the model cut to ``mask``, if one with as many heads in each layer was timed."""
        return self._speed.get(_shape(mask, recover))

    def add(self, mask: HeadMask, recover: str, measured: Outcomes | Speed) -> None:
        """Enter a measurement; a time of a busy machine does not replace a reliable one."""
        if isinstance(measured, Speed):
            shape = _shape(mask, recover)
            if shape not in self._speed or not measured.busy:
                self._speed[shape] = measured
        else:
            self._outcomes[mask.sha256, recover] = measured
            self.glimpses.pop((mask.sha256, recover), None)
            self._shipped.discard((mask.sha256, recover))

    def costs(self, mask: HeadMask, recover: str = "none") -> Costs | None:
        """Return the costs of a model with as many heads in each layer, if it was timed in this session."""
        return self._costs.get(_shape(mask, recover))

    def add_costs(self, mask: HeadMask, recover: str, costs: Costs) -> None:
        """Enter costs that were measured here; they replace earlier timings, unless only those are reliable."""
        speed = Speed.of(costs.ratio, costs.full, costs.pruned)
        shape = _shape(mask, recover)
        earlier = self._costs.get(shape)
        if earlier is None or earlier.noisy or not costs.noisy:
            self._costs[shape] = costs
        self.add(mask, recover, speed)
        # A page may add a table meanwhile.
        for table in list(self._tables.values()):
            if table.has(mask) and _shape(mask, table.recover) == shape:
                table.add(mask.count, speed=speed)


def _shape(mask: HeadMask, recover: str) -> _Shape:
    """Return what the time of a model depends on."""
    return (*mask.counts, RECOVERIES[recover].adds_bypass)


def at_half(bench: Bench) -> Bench:
    """Return the bench with half of the heads as its budget: a board begins there if the curve has no knee."""
    settings = bench.settings
    budgets = settings.budget_rules(bench.card).possible
    return replace(bench, settings=replace(settings, budget=str(middle_budget(budgets))))


def _of_table(settings: Settings) -> tuple[Any, ...]:
    """Return the settings that tell what each budget keeps."""
    minima = (settings.min_per_layer, settings.min_first_layers)
    return settings.salience, minima, settings.even, settings.representative


def same_evidence(settings: Settings, other: Settings, *, ignored: Sequence[str] = ()) -> bool:
    """Return whether a run with one serves the other: they differ only in ``INTERPRETATIONS`` and ``ignored``."""
    without = (*INTERPRETATIONS, *ignored)
    return key_fields(settings, without=without) == key_fields(other, without=without)
