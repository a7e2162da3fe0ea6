"""What is cached or measured of masks: the run on screen, its clusters and tables, and one look-up of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from numpy.typing import NDArray

from cahp import bundled, models
from cahp.bundled import Bundle
from cahp.outcomes import Outcomes
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.bench import Bench
from cahp.run.document import RunDocument
from cahp.run.prune import Run, known
from cahp.run.recovery_steps import RecoveryStep
from cahp.run.settings import Settings
from cahp.studies.budget_sweep import BudgetTable, Speed
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.table_file import enter_full, own_outcomes
from cahp.values import Costs, DistillReport, HeadMask

#: What may change without making a run another run: it only reads the same evidence differently.
READINGS = frozenset(
    {
        *("budget", "poly_degree", "min_per_layer", "salience", "representative", "latency", "device"),
        *("recover", "recover_data", "recover_time", "labels"),
    }
)


class Results:
    """The results of one run, and of masks of the same model on the same texts.

    Another run has results of its own: what is still being measured for this one then ends up here, where nobody looks.
    """

    def __init__(
        self,
        run: RunDocument | None = None,
        arrays: Mapping[str, NDArray[Any]] | None = None,
        *,
        bundle: Bundle | None = None,
        outdated: bool = False,
    ) -> None:
        #: The document of the run on screen (``cahp.run/1``), or None before the first. Its own settings are in it.
        self.run = run
        #: Its arrays; a bundled run ships the small ones only.
        self.arrays: Mapping[str, NDArray[Any]] = arrays or {}
        #: The bundled run, if that is what is shown: it was measured elsewhere.
        self.bundle = bundle
        #: The bundled run was made with another model or data than are installed here, so it is not shown.
        self.outdated = outdated
        self._clusters: dict[tuple[Any, ...], HeadClusters] = {}
        self._tables: dict[tuple[Any, ...], BudgetTable] = {}
        self._outcomes: dict[tuple[str, str], Outcomes] = {}
        #: Those of ``_outcomes`` that ship with the package.
        self._shipped: set[tuple[str, str]] = set()
        self._speed: dict[tuple[int, ...], Speed] = {}
        self._distilled: dict[str, tuple[DistillReport, tuple[RecoveryStep, ...]]] = {}
        self._costs: dict[tuple[int, ...], Costs] = {}
        if run is not None:
            self._enter(run)
        if bundle is not None:
            self._shipped.update(self._outcomes)

    @classmethod
    def found(cls, bench: Bench) -> Results:
        """What was measured before of this question: on this machine, or else what ships with the package."""
        cached = known(bench)
        if cached is not None:
            return cls.of(cached)
        shipped = bundled.read()
        if shipped is None or not _same_question(bench.settings, shipped.document.settings):
            return cls()
        said = shipped.document
        theirs = (said.model.sha256, said.data.select.sha256, said.data.eval.sha256)
        if theirs != (bench.card.sha256, bench.calibration.sha256, bench.evaluation.sha256):
            return cls(outdated=True)
        return cls(said, shipped.arrays, bundle=shipped)

    @classmethod
    def of(cls, run: Run) -> Results:
        """Those of a run that was made here."""
        return cls(run.document, run.arrays)

    @property
    def bundled(self) -> bool:
        """Whether the run on screen ships with the package and was measured elsewhere."""
        return self.bundle is not None

    # What the choice follows from ----------------------------------------------------------------------------

    def clusters(self, settings: Settings) -> HeadClusters | None:
        """What the choice of heads follows from, or None where only the worker can tell."""
        name = _read_as(settings)
        if name not in self._clusters and self.bundle is not None:
            self._clusters[name] = self.bundle.evidence(settings.salience, settings.poly_degree)
        return self._clusters.get(name)

    def add_clusters(self, settings: Settings, clusters: HeadClusters) -> None:
        """Enter what the worker found."""
        self._clusters[_read_as(settings)] = clusters

    def table(self, settings: Settings, recover: str = "none") -> BudgetTable | None:
        """All budgets and what is measured of them, or None as long as there are no clusters."""
        clusters = self.clusters(settings)
        if clusters is None:
            return None
        name = (settings.salience, settings.min_per_layer, settings.representative, recover)
        if name not in self._tables:
            table = BudgetTable.plan(
                clusters, settings, recover=recover, listener=lambda mask, found: self.add(mask, recover, found)
            )
            self._begin(table, settings)
            self._tables[name] = table
        return self._tables[name]

    def _begin(self, table: BudgetTable, settings: Settings) -> None:
        """Enter what is measured already into a new table."""
        if self.bundle is not None and self.ships_table(settings, table.recover):
            table.fill_from(self.bundle.rows)
            budgets = map(int, self.bundle.rows["outcomes"])
            self._shipped.update((table.selection(budget).mask.sha256, table.recover) for budget in budgets)
        if self.run is not None:
            enter_full(table, self.run)

    def ships_table(self, settings: Settings, recover: str = "none") -> bool:
        """Whether the table of these ``settings`` begins with the rows that ship with the package."""
        read_alike = ("salience", "min_per_layer", "representative")
        same = all(getattr(settings, name) == getattr(bundled.SETTINGS, name) for name in read_alike)
        return self.bundle is not None and same and recover == self.bundle.rows["recover"]

    # Figures -------------------------------------------------------------------------------------------------

    def outcomes(self, mask: HeadMask, recover: str = "none") -> Outcomes | None:
        """How the model answers under ``mask``, if that is measured."""
        return self._outcomes.get((mask.sha256, recover))

    def ships(self, mask: HeadMask, recover: str = "none") -> bool:
        """Whether what ``outcomes`` says was measured elsewhere, and ships with the package."""
        return self.bundle is not None and (mask.is_full or (mask.sha256, recover) in self._shipped)

    def speed(self, mask: HeadMask) -> Speed | None:
        """Latency of the model cut to ``mask``, if one with as many heads in each layer was timed."""
        return self._speed.get(heads_of_layers(mask))

    def add(self, mask: HeadMask, recover: str, found: Outcomes | Speed) -> None:
        """Enter a measurement."""
        if not isinstance(found, Speed):
            self._outcomes[mask.sha256, recover] = found
            self._shipped.discard((mask.sha256, recover))
        else:
            self._speed[heads_of_layers(mask)] = found

    def costs(self, mask: HeadMask) -> Costs | None:
        """What a model with as many heads in each layer costs, if that was timed in this session."""
        return self._costs.get(heads_of_layers(mask))

    def add_costs(self, mask: HeadMask, found: Costs) -> None:
        """Enter what was timed here; it replaces what was known of the time."""
        speed = Speed.of(found.ratio, found.full, found.pruned)
        self._costs[heads_of_layers(mask)] = found
        self.add(mask, "none", speed)
        for table in self._tables.values():
            if table.has(mask):
                table.add(mask.count, speed=speed)

    def distillation(self, mask: HeadMask) -> DistillReport | None:
        """What came of the distillation of ``mask``, if there was one."""
        found = self._distilled.get(mask.sha256)
        return None if found is None else found[0]

    def steps(self, mask: HeadMask) -> tuple[RecoveryStep, ...]:
        """What each step of the recovery brought that ended with the distillation of ``mask``."""
        return self._distilled[mask.sha256][1] if mask.sha256 in self._distilled else ()

    def add_distillation(self, mask: HeadMask, report: DistillReport, steps: tuple[RecoveryStep, ...] = ()) -> None:
        """Enter what came of one."""
        self._distilled[mask.sha256] = report, steps

    def _enter(self, run: RunDocument) -> None:
        """Enter what the run says of its own mask."""
        for recover in (NONE.name, run.settings.recover):
            outcomes = own_outcomes(run, recover)
            if outcomes is not None and RECOVERIES[recover].swept:
                self.add(run.mask, recover, outcomes)
        if run.latency_ratio is not None:
            self.add(run.mask, "none", Speed.of(run.latency_ratio, run.cost.full, run.cost.pruned))


def heads_of_layers(mask: HeadMask) -> tuple[int, ...]:
    """How many heads each layer keeps: what latency depends on."""
    return tuple(len(heads) for heads in mask.by_layer)


def _read_as(settings: Settings) -> tuple[Any, ...]:
    return settings.salience, settings.poly_degree


def same_but_for_readings(ours: Settings, theirs: Settings, *, ignored: Sequence[str] = ()) -> bool:
    """Whether a run of the one answers the other: they differ in what reads the same evidence, and in ``ignored``."""
    asked = [field.name for field in fields(Settings) if field.name not in (*READINGS, *ignored)]
    return all(getattr(ours, name) == getattr(theirs, name) for name in asked)


def _same_question(ours: Settings, theirs: Settings) -> bool:
    same = same_but_for_readings(ours, theirs, ignored=("data", "label_map"))
    builtin = models.BUILTINS.get(ours.model)
    return same and builtin is not None and ours.data in (None, builtin.data)
