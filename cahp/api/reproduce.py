"""``cahp.reproduce``: the published experiment, with classifiers fine-tuned, pruned and recovered as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from cahp import data, models
from cahp.api.fit import fit, training_key
from cahp.api.options import Name, ShowProgress, show_progress
from cahp.api.preflight import estimate_seconds, preflight
from cahp.comparison.plan import COMPARED, REFERENCE, ListOption, Plan, SeedsOption, read_items, read_seeds
from cahp.comparison.running import compare
from cahp.comparison.split_results import SplitResults
from cahp.data.sources import PRESETS
from cahp.files import json_text, write_whole
from cahp.output import Mark, Output, UnwrittenError
from cahp.recoveries import RECOVERIES, refit_texts
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError, Progress
from cahp.words import duration, interval, percent, size_of

SCHEMA = "cahp.reproduction/1"
FILE = "reproduction.json"
_TABLE = "reproduction.md"
_MARK = Mark(FILE, "cahp.reproduction")
#: Operations per second of training and inference on one modern GPU (an A100 in TensorFloat-32, half used).
_GPU_SPEED = 6e13
#: Forward passes that a training step costs, and the epochs of the paper's fine-tuning.
_TRAINING_PASSES, _EPOCHS = 3, 3
#: Forward passes per calibration text to choose heads: signatures, and gradients through a quarter of the texts.
_CHOOSING_PASSES = 1.5
#: Hidden states of each token that a refit holds at once.
_HIDDEN_STATES = 4
#: Bytes of the cache: an interrupted training of BERT-large takes five gigabytes.
_CACHE_BYTES = 16 << 30


@dataclass(frozen=True)
class Published:
    """An experiment of the paper (arXiv 2606.19150) with its results, known to us from secondary sources.

    ``kept`` heads; accuracies in per cent of the fine-tuned model with all heads (``full``), and pruned
    and fine-tuned again (``pruned``); ``tokens`` of a typical input.
    """

    model: str
    data: str
    kept: int
    full: float
    pruned: float
    pool_size: int
    tokens: int

    @property
    def name(self) -> str:
        """Its name, and that of its folder."""
        return f"{self.model}-{self.data}"

    @property
    def hub(self) -> str:
        """The hub id of its encoder."""
        return f"google-bert/{self.model}"


PUBLISHED = (
    Published("bert-base-cased", "sst5", 26, 53.6, 51.0, 32, 26),
    Published("bert-base-cased", "mnli", 28, 84.2, 81.8, 48, 42),
    Published("bert-large-cased", "sst5", 59, 56.8, 53.3, 32, 26),
    Published("bert-large-cased", "mnli", 57, 86.5, 84.0, 48, 42),
)


@dataclass(frozen=True)
class ExpectedCost:
    """The cost of an experiment: operations, and hours on this machine and on one modern GPU."""

    name: str
    operations: float
    hours_here: float
    hours_gpu: float
    memory_bytes: int


@dataclass(frozen=True)
class Experiments:
    """The experiments to do and their options; ``limit`` and ``eval_limit`` None stand for all texts."""

    experiments: tuple[str, ...] = tuple(experiment.name for experiment in PUBLISHED)
    methods: tuple[str, ...] = (REFERENCE, "random")
    recoveries: tuple[str, ...] = COMPARED
    #: The paper reports one seed as far as we know; three show how much the seed matters.
    seeds: tuple[int, ...] = (42, 43, 44)
    limit: int | None = None
    eval_limit: int | None = None
    report: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        known = [experiment.name for experiment in PUBLISHED]
        for name in self.experiments:
            if name not in known:
                raise OptionError(f"--experiments {name} is unknown; choose among {', '.join(known)}")
        for experiment in self.chosen:
            # Refuses invalid methods, seeds and recoveries before anything is fetched.
            self.comparison_plan(experiment, Path(experiment.name))

    @property
    def chosen(self) -> list[Published]:
        """The experiments in the order of the paper."""
        return [experiment for experiment in PUBLISHED if experiment.name in self.experiments]

    def report_split(self, experiment: Published) -> str | None:
        """The split to report on (None for MNLI, whose published test split has no labels)."""
        return self.report if "test" in PRESETS[experiment.data].splits else None

    def comparison_plan(self, experiment: Published, classifier: Path) -> Plan:
        """The comparison of one experiment."""
        settings = Settings(
            model=str(classifier),
            data=experiment.data,
            limit=self.limit,
            eval_limit=self.eval_limit,
            pool_size=experiment.pool_size,
            device=self.device,
            report=self.report_split(experiment),
        )
        return Plan(
            settings,
            methods=self.methods,
            budgets=(str(experiment.kept),),
            seeds=self.seeds,
            recoveries=self.recoveries,
            # One random mask per seed, so that each method is recovered equally often.
            draws=len(self.seeds),
        )


def estimate_costs(plan: Experiments) -> list[ExpectedCost]:
    """Estimate the cost of each experiment from its encoder's configuration and its data; no weights are fetched.

    Raises:
        ModelError: If an encoder cannot be looked up.
    """
    from cahp.models.sketch import operations

    cards = {name: models.preview(name) for name in {experiment.hub for experiment in plan.chosen}}
    costs = []
    for experiment in plan.chosen:
        card, sizes = cards[experiment.hub], PRESETS[experiment.data].splits
        texts = sizes["train"] if plan.limit is None else min(plan.limit, sizes["train"])
        evaluated = sizes["validation"] if plan.eval_limit is None else min(plan.eval_limit, sizes["validation"])
        if plan.report_split(experiment):
            evaluated += sizes["test"]
        seeds, masks = len(plan.seeds), len(plan.methods) * len(plan.seeds)
        by_recovery = {name: row.passes(texts, can_refit=card.no_refit is None) for name, row in RECOVERIES.items()}
        labelled = sum(by_recovery[name] for name in plan.recoveries if RECOVERIES[name].needs_labels)
        passes = (
            _EPOCHS * (_TRAINING_PASSES * texts + sizes["validation"])
            + seeds * _CHOOSING_PASSES * texts
            + masks * sum(by_recovery[name] + evaluated for name in {"none", *plan.recoveries})
            # Besides the masks, the full model is evaluated, and trained too if masks are.
            + seeds * (evaluated + labelled)
        )
        work = passes * experiment.tokens * operations(card)
        seconds = estimate_seconds(card, tokens=1) / operations(card) * work
        # A training holds weights, gradients and two moments of the optimiser; a refit hidden states of its tokens.
        training = 4 * 4 * (card.details or {}).get("parameters", 0)
        refit = _HIDDEN_STATES * 4 * card.hidden * experiment.tokens * refit_texts(texts)
        memory = preflight(card)["memory_bytes"] + max(training, 0 if card.no_refit else refit)
        costs.append(ExpectedCost(experiment.name, work, seconds / 3600, work / _GPU_SPEED / 3600, memory))
    return costs


def reproduce(
    out: Name | Output,
    *,
    jobs: int | None = 1,
    cluster: str | None = None,
    command: str = "",
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ExperimentOptions],
) -> dict[str, Any]:
    """Repeat the published experiment, and write one table with the published numbers to ``out``.

    An interrupted call resumes where it stopped: classifiers are in ``out``, trainings and the answers of each mask in
    the cache. ``out`` holds a folder for each experiment, which the Compare page opens. Classifiers are trained one
    after another; processes share the masks.

    Args:
        out: The folder to write to.
        jobs: Number of processes on this machine (None: one, or one per GPU).
        cluster: ``"dask"``, or ``"dask:ADDRESS"`` of a scheduler.
        command: The command line to record in the document.
        progress, yes, store: See ``cahp.prune``.
        **options: See ``ExperimentOptions``.

    Returns:
        The document that ``cahp reproduce --json`` prints.

    Raises:
        CahpError: If an experiment cannot be done; one line with the next step.
        UnwrittenError: If the table cannot be written; the error carries the document.
    """
    plan = plan_experiments(**options)
    output, store = Output.of(out), store or open_store()
    output.check_files((FILE, _TABLE), _MARK)
    with show_progress(progress, yes=yes) as reporter:
        reporter.say("\n".join(announcement(estimate_costs(plan))))
        for experiment in plan.chosen:
            # Fetched here, so that a person is asked once, before hours of work.
            models.identify(experiment.hub)
            data.load(experiment.data)
        rows: list[dict[str, Any]] = []
        for experiment in plan.chosen:
            folder = output.folder.resolve()
            classifier = _train_classifier(experiment, plan, folder / "classifiers", store, reporter)
            asked = plan.comparison_plan(experiment, classifier)
            comparison = compare(asked, store=store, jobs=jobs, cluster=cluster, command=command, progress=reporter)
            comparison.write(folder / experiment.name)
            rows += _list_rows(experiment, comparison.results_on(comparison.document.parts[-1], "accuracy"))
    document = {"schema": SCHEMA, "source": _SOURCE, "asked": asdict(plan), "rows": rows, "command": command}
    with UnwrittenError.carrying(document):
        output.write({FILE: json_text(document).encode(), _TABLE: ("\n".join(table(rows)) + "\n").encode()})
    return document


def open_store(*, fresh: bool = False) -> Store:
    """The user's cache with room for large trainings; a ``fresh`` one finds nothing."""
    return Store(limit_bytes=_CACHE_BYTES, fresh=fresh)


class ExperimentOptions(TypedDict, total=False):
    """The options of ``reproduce``, each a list or a text with commas where several are meant.

    ``experiments`` are names such as ``bert-base-cased-sst5`` (default: all four). By default ``methods`` are
    complementary and random, ``recover`` all recoveries that can be compared, and ``seeds`` three. ``limit`` is the
    number of training and calibration texts, ``eval_limit`` that of evaluation texts (default: all). ``report="test"``
    opens the test split and evaluates on it, too.
    """

    experiments: ListOption
    methods: ListOption
    recover: ListOption
    seeds: SeedsOption
    limit: int | None
    eval_limit: int | None
    report: str | None
    device: str


def plan_experiments(**options: Unpack[ExperimentOptions]) -> Experiments:
    """The experiments with their options; None stands for the default.

    Raises:
        OptionError: If a name is unknown or an option invalid.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    given |= {name: read_items(given[name]) for name in ("experiments", "methods", "recover") if name in given}
    if "recover" in given:
        given["recoveries"] = given.pop("recover")
    if "seeds" in given:
        given["seeds"] = read_seeds(given["seeds"])
    return Experiments(**given)


_SOURCE = "published numbers: arXiv 2606.19150, from secondary sources, of one seed as far as known"


def _train_classifier(experiment: Published, plan: Experiments, place: Path, store: Store, progress: Progress) -> Path:
    """The folder of an experiment's fine-tuned classifier, which is trained unless it exists."""
    from cahp.models.fitting import PAPER_SCHEDULE

    folder, note = place / experiment.name, place / f"{experiment.name}.json"
    settings = Settings(model=experiment.hub, data=experiment.data, device=plan.device)
    card, texts = models.identify(experiment.hub), data.load(experiment.data)
    sample, _ = data.sample(texts.split("train"), plan.limit, seed=settings.seed)
    validation = texts.split("validation")
    name = training_key(card, sample, validation=validation, schedule=PAPER_SCHEDULE, seed=settings.seed)
    if store.fresh or not note.is_file() or name not in note.read_text() or not folder.is_dir():
        # The test split is opened only on request.
        options: dict[str, Any] = {"whole": True, "measured": ("validation",), "store": store, "progress": progress}
        document = fit(settings, out=folder, limit=plan.limit, **options)
        write_whole(place, {note.name: json_text({"key": name, **document}).encode()})
    return folder


def _list_rows(experiment: Published, results: SplitResults) -> list[dict[str, Any]]:
    """A row for the full model and each method, by recovery."""
    shared = {"experiment": experiment.name, "split": results.split, "n": results.n}
    shared |= {"seeds": len(results.document.seeds), "of": results.total, "kl": None, "agreement": None}
    rows = [
        {**shared, "method": "all heads", "kept": results.total, "recovery": recovery, "accuracy": accuracy}
        | {"interval": None, "published": experiment.full if recovery == "none" else None}
        for recovery, accuracy in results.full.items()
    ]
    for (recovery, method, budget), mean in results.means.items():
        theirs = method == REFERENCE and recovery == "finetune"
        rows.append(
            {**shared, "method": method, "kept": budget, "recovery": recovery, "accuracy": mean.accuracy.value}
            | {"interval": [mean.accuracy.low, mean.accuracy.high], "published": experiment.pruned if theirs else None}
            | {"kl": mean.outcomes["kl"].value, "agreement": mean.outcomes["agreement"].value}
        )
    return rows


def announcement(costs: Sequence[ExpectedCost]) -> list[str]:
    """The cost of all experiments, for a person to read before they begin."""
    width = max(len(cost.name) for cost in costs)
    lines = [
        f"  {cost.name:<{width}}  about {duration(3600 * cost.hours_here)} on this machine, "
        f"{duration(3600 * cost.hours_gpu)} on one modern GPU; {size_of(cost.memory_bytes)} of memory"
        for cost in costs
    ]
    here, gpu = sum(cost.hours_here for cost in costs), sum(cost.hours_gpu for cost in costs)
    total = f"about {duration(3600 * here)} on this machine, {duration(3600 * gpu)} on one modern GPU"
    return [f"{len(costs)} experiments: {total} (operations counted from the configuration)", *lines]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as a Markdown table."""
    lines = [
        "| experiment | heads | method | recovery | accuracy here | published |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = "" if row["interval"] is None else f" {interval(*(100 * end for end in row['interval']))}"
        published = "" if row["published"] is None else f"{row['published']:.1f}"
        lines.append(
            f"| {row['experiment']} | {row['kept']} of {row['of']} | {row['method']} | {row['recovery']} | "
            f"{percent(row['accuracy'])}{span} | {published} |"
        )
    splits = ", ".join(dict.fromkeys(f"{row['experiment']} {row['split']} (n = {row['n']:,})" for row in rows))
    return [*lines, "", f"Measured on {splits}; means over seeds with 95 % intervals. P{_SOURCE[1:]}."]
