"""The document of a finished run, and its file ``run.json`` of the schema ``cahp.run/1``.

The fields are those of the file, in its order. A value that was not measured is None, never 0.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cahp.files import plain_json
from cahp.goals import ReachedGoal
from cahp.models.cards import BUSY, CacheShape, Cost, Costs, GenerationSpeed, KvCache, ModelCard
from cahp.outcomes import STATES, Outcomes, finite, main_outcome, to_delta, to_metrics
from cahp.recoveries import DistillReport, RefitReport
from cahp.run.evidence import KneeNull
from cahp.run.recoveries import RecoveryStep
from cahp.run.resources import SplitRecord
from cahp.run.search import HeadSearch
from cahp.run.settings import Settings
from cahp.tasks.answers import WindowProtocol
from cahp.tasks.task import CLASSIFICATION, NEXT_TOKEN, Task
from cahp.values import CahpError, Estimate, Fields, HeadMask, JsonObject, Names, Notices, Precisions
from cahp.words import too_close

# Reading ``run.json`` -----------------------------------------------------------------------------------------------


def describe_error(error: Exception) -> str:
    """Describe what is wrong with a file, from its reader's error."""
    return f"The run is broken ({error})"


# The price of an even selection: how much more it changes the model than a free one of as many heads ----------------


@dataclass(frozen=True)
class Evenness:
    """KL divergence from the full model of an ``even`` selection and of a ``free`` one of as many heads, as pruned.

    The ``difference`` is paired over texts or documents; above 0 the even selection changes the model more.
    """

    even: Estimate
    free: Estimate
    difference: Estimate

    @property
    def finding(self) -> str:
        """The price in a sentence."""
        change = self.difference
        verdict = too_close(change.n)
        if change.excludes(0):
            verdict = f"{change.text} ({change.span})"
        return (
            f"price of the same number of heads in every layer: {verdict} (KL divergence {self.even.text} as pruned, "
            f"of a free selection of as many heads {self.free.text}, n = {change.n:,})"
        )


SCHEMA = "cahp.run/1"

#: The method of a mask made by hand.
BY_HAND = "by hand"

#: The fields of a run's file that repeat others for readers of today.
FILE_FIELDS = frozenset(("metrics", "delta"))
#: The outcomes of each model that was evaluated.
StateOutcomes = Mapping[str, Outcomes]

_LIBRARIES = ("numpy", "scikit-learn", "kmedoids", "kneed", "torch", "transformers")


@dataclass(frozen=True)
class ModelRecord:
    """Identity and shape of the model; each of its ``heads`` stands for ``group`` query heads.

    ``files_sha256`` is the digest of its files, whatever prompt it gets (None: an older file).
    """

    id: str
    revision: str | None
    family: str
    layers: int
    heads: int
    sha256: str
    group: int = 1
    files_sha256: str | None = None

    @property
    def unit(self) -> str:
        """What is kept or pruned as a whole, in the singular; see ``ModelCard.unit``."""
        if self.group == 1:
            return "head"
        return "group"

    @classmethod
    def of(cls, card: ModelCard) -> ModelRecord:
        """Take them from the model's card."""
        return cls(card.id, card.revision, card.family, card.layers, card.heads, card.identity, card.group, card.origin)


@dataclass(frozen=True)
class DataRecord:
    """The data: calibration texts (``select``), evaluation texts (``eval``), and the classes in the model's order.

    Where the texts are not ``labelled``, the full model's predictions served as their classes.
    """

    id: str
    select: SplitRecord
    eval: SplitRecord
    classes: Names = ()
    labelled: bool = True


@dataclass(frozen=True)
class Budget:
    """Number of heads requested (None: where the curve stops), and number kept."""

    requested: int | None
    attained: int


@dataclass(frozen=True)
class Report(SplitRecord):
    """The outcomes on a split that was opened only for a report."""

    outcomes: StateOutcomes


@dataclass(frozen=True)
class CostRecord:
    """Cost of the full and of the pruned model."""

    full: Cost
    pruned: Cost


@dataclass(frozen=True)
class Timings:
    """Seconds of the stages that ran (None: cached, or not part of the run), and of the whole run."""

    signatures_s: float | None
    features_s: float | None
    projection_s: float | None
    clustering_s: float | None
    salience_s: float | None
    evaluation_s: float | None
    recovery_s: float | None
    total_s: float | None

    @classmethod
    def of(cls, seconds: Mapping[str, float], total: float) -> Timings:
        """Build it from seconds by the name of the stage."""
        timed = {entry.name: seconds.get(entry.name.removesuffix("_s")) for entry in fields(cls)}
        return cls(**{**timed, "total_s": total})


@dataclass(frozen=True)
class Verification:
    """The proof of the masks, as measured (None: not measured).

    ``mask_bites``: the logits depend on every gate. ``mask_equals_surgery``: the masked and the cut model give the same
    logits; ``difference`` is the largest difference under the run's mask.
    """

    mask_bites: bool | None
    mask_equals_surgery: bool | None
    difference: float | None = None


@dataclass(frozen=True)
class RunDocument:
    """A finished run; ``kept`` lists the heads that each layer keeps, ``rescued`` pairs of layer and head.

    ``machine`` describes the machine (None: unknown), ``precision`` the numbers that were computed with. ``steps`` are
    the outcomes after each step of a recovery that has several. ``knee_null`` tells where the published rule stops on
    the features without their structure (None: the budget was not left to it), ``goal`` which goal chose the budget,
    ``evenness`` what an even selection costs (None: the selection was free), and ``protocol`` how a language model was
    measured. Causal language models have a ``kv_cache``, a ``speed`` of generation (None: not timed), and
    ``attention_weights``, the share of attention in their weights. ``search`` tells how ``--select-time`` improved the
    kept heads (None: it was not given). ``sections`` are the fields that features add, by name, as the file holds them;
    see ``cahp.run.measures``.
    """

    model: ModelRecord
    data: DataRecord
    settings: Settings
    knee: int | None
    knee_rule: str | None
    budget: Budget
    kept: Mapping[str, tuple[int, ...]]
    rescued: tuple[tuple[int, int], ...]
    outcomes: StateOutcomes
    refit: RefitReport | None
    cost: CostRecord
    latency_ratio: Estimate | None
    attention_share: float | None
    timings: Timings
    cached: Names
    verified: Verification
    test_opened: int
    versions: Mapping[str, str]
    command: str
    clusters: int | None = None
    report: Report | None = None
    notices: Notices = ()
    distill: DistillReport | None = None
    machine: str | None = None
    steps: tuple[RecoveryStep, ...] = ()
    knee_null: KneeNull | None = None
    goal: ReachedGoal | None = None
    protocol: WindowProtocol | None = None
    precision: Precisions = field(default_factory=Precisions)
    kv_cache: KvCache | None = None
    speed: GenerationSpeed | None = None
    attention_weights: float | None = None
    evenness: Evenness | None = None
    search: HeadSearch | None = None
    sections: Fields = field(default_factory=dict)
    schema: str = field(default=SCHEMA, kw_only=True)

    @property
    def mask(self) -> HeadMask:
        """The heads kept."""
        heads = self.model.heads
        kept = [int(layer) * heads + head for layer, row in self.kept.items() for head in row]
        return HeadMask.of(kept, self.model.layers, heads)

    @property
    def cache_shape(self) -> CacheShape | None:
        """The size of the cache of keys and values, by which that of any mask is counted (None: there is none)."""
        if self.kv_cache is None:
            return None
        return self.kv_cache.shape

    @property
    def task(self) -> Task:
        """What the model predicts."""
        return CLASSIFICATION if self.protocol is None else NEXT_TOKEN

    @property
    def units(self) -> str:
        """What the intervals of its outcomes are over."""
        return "texts" if self.protocol is None else self.protocol.units

    @property
    def saves_time(self) -> bool:
        """Whether removing heads saves time first, so that a sweep of budgets times some of them."""
        return self.kv_cache is None

    def as_pruned(self, *, command: Callable[[Settings], str]) -> RunDocument:
        """Return the run without its recovery; ``command`` writes the command line that repeats it.

        Its sections stay; ``cahp.run.measures.remove_recovery`` changes them.
        """
        report = self.report and replace(self.report, outcomes=_unrecovered(self.report.outcomes))
        settings = replace(self.settings, recover="none", recover_data=None, recover_time=None, labels=False)
        if self.goal is not None:
            # It was reached with the recovery; the number of heads stays.
            settings = replace(settings, goal=None, budget=str(self.goal.heads))
        return replace(
            self,
            settings=settings,
            goal=None,
            refit=None,
            distill=None,
            steps=(),
            report=report,
            timings=replace(self.timings, recovery_s=None),
            command=command(settings),
            outcomes=_unrecovered(self.outcomes),
        )

    def timed(self, costs: Costs) -> RunDocument:
        """Return the run with another timing of its mask, and the notices of that timing."""
        notices = (*(notice for notice in self.notices if BUSY not in notice), *costs.notices)
        return replace(self, notices=notices, **cost_fields(costs))

    def to_json(self) -> JsonObject:
        """Return the run as ``run.json`` holds it."""
        content: JsonObject = {"schema": self.schema}
        for entry in fields(self):
            if entry.name == "outcomes":
                content |= outcome_records(self.outcomes)
            else:
                content[entry.name] = getattr(self, entry.name)
        content |= content.pop("sections")
        content["latency_ratio"] = ratio_record(self.latency_ratio)
        content["steps"] = [{**vars(step), "outcomes": finite(step.outcomes)} for step in self.steps]
        if self.report is not None:
            content["report"] = {**vars(self.report), **outcome_records(self.report.outcomes)}
        return dict(plain_json(content))

    @classmethod
    def from_json(cls, content: object) -> RunDocument:
        """Read what ``to_json`` wrote.

        Raises:
            CahpError: If it is no run, with what is wrong.
        """
        import msgspec

        if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
            raise CahpError(f"This is not a run of the schema {SCHEMA}; write one with `cahp prune --out`.")
        names = {entry.name for entry in fields(cls)} | FILE_FIELDS
        try:
            native = {**content, "outcomes": _read_outcomes(content)}
            native["sections"] = {name: part for name, part in content.items() if name not in names}
            ratio = content["latency_ratio"]
            if ratio is not None:
                repeats = content["cost"]["full"]["latency_ms"]["repeats"]
                native["latency_ratio"] = Estimate(ratio["median"], ratio["ci95"], repeats, "ratio")
            if content.get("report") is not None:
                native["report"] = {**content["report"], "outcomes": _read_outcomes(content["report"])}
            document = msgspec.convert(native, cls)
            measured = [document.outcomes["full"], *document.outcomes.values()]
            measured += [step.outcomes for step in document.steps]
            if document.report is not None:
                measured += [document.report.outcomes["full"], *document.report.outcomes.values()]
            for outcomes in measured:
                main_outcome(outcomes)
        except (msgspec.ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CahpError(f"{describe_error(error)}; write it again with `cahp prune --out`.") from None
        layers = {str(layer) for layer in range(document.model.layers)}
        heads = set(range(document.model.heads))
        if set(document.kept) != layers or not all(set(kept) <= heads for kept in document.kept.values()):
            raise CahpError("`kept` of the run does not fit its model; write it again with `cahp prune --out`.")
        return document


def _read_outcomes(content: Fields) -> JsonObject:
    """Return the outcomes of each model that was evaluated, as far as they were measured."""
    measured: JsonObject = {}
    for state, outcomes in content["outcomes"].items():
        if outcomes is not None and state in STATES:
            measured[state] = {name: estimate for name, estimate in outcomes.items() if estimate is not None}
    return measured


def _unrecovered(outcomes: StateOutcomes) -> StateOutcomes:
    return {state: measured for state, measured in outcomes.items() if state != "recovered"}


def outcome_records(outcomes: StateOutcomes) -> JsonObject:
    """Return ``metrics``, ``delta`` and ``outcomes`` of a file; null where a model was not evaluated."""
    states = (*STATES, *(state for state in outcomes if state not in STATES))
    full, *others = states
    metrics: JsonObject = dict.fromkeys(states)
    delta: JsonObject = dict.fromkeys(others)
    values: JsonObject = dict.fromkeys(states)
    for state, measured in outcomes.items():
        metrics[state] = to_metrics(measured)
        values[state] = finite(measured)
        if state != full:
            delta[state] = to_delta(measured)
    return {"metrics": metrics, "delta": delta, "outcomes": values}


def measured_states(record: Fields) -> dict[str, Outcomes]:
    """Return the outcomes in a file by state, without the states that were not measured."""
    return {state: outcomes for state, outcomes in (record["outcomes"] or {}).items() if outcomes is not None}


def ratio_record(ratio: Estimate | None) -> JsonObject | None:
    """Return ``latency_ratio`` of a file."""
    if ratio is None:
        return None
    return {"median": ratio.value, "ci95": ratio.ci95}


def cost_fields(costs: Costs | None) -> JsonObject:
    """Return the fields of a run that a timing fills (None: not measured)."""
    if costs is None:
        unmeasured = Cost(None, None, None)
        return {"cost": CostRecord(unmeasured, unmeasured), "latency_ratio": None, "attention_share": None}
    timed = {"latency_ratio": costs.ratio, "attention_share": costs.attention_share, "speed": costs.speed}
    return {"cost": CostRecord(costs.full, costs.pruned), **timed}


def latency_record(costs: Costs, card: ModelCard, mask: HeadMask) -> JsonObject:
    """Return the fields of ``run.json`` that a timing of a mask fills."""
    measured = {**cost_fields(costs), "latency_ratio": ratio_record(costs.ratio)}
    return {**measured, "kv_cache": card.measure_cache(mask)}


def versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that affect numbers."""
    installed = {}
    for name in ("cahp-explorer", *_LIBRARIES):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "unknown"
    return installed


def machine() -> str:
    """Return the processor's name and number of cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"
