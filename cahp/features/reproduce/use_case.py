"""``cahp.reproduce``: the published experiment, with classifiers fine-tuned, pruned and recovered as in the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from cahp import data, models
from cahp.api.fit import fit
from cahp.api.options import Name, ShowProgress, show_progress
from cahp.api.preflight import estimate_seconds, preflight
from cahp.comparison.plan import REFERENCE, TRAINED_ONCE, Plan
from cahp.comparison.presets import ListOption, SeedsOption, read_items, read_seeds
from cahp.comparison.running import compare
from cahp.comparison.split_results import SplitResults
from cahp.data.sources import PRESETS
from cahp.files import json_text
from cahp.output import Mark, Output, UnwrittenError
from cahp.recoveries import RECOVERIES, refit_texts
from cahp.run.settings import PUBLISHED_LENGTH, Settings
from cahp.store import Store
from cahp.values import OptionError
from cahp.words import duration, interval, percent, size_of

SCHEMA = "cahp.reproduction/1"
FILE = "reproduction.json"
_TABLE = "reproduction.md"
_MARK = Mark(FILE, "cahp.reproduction")
#: Operations per second of training and inference on one modern GPU (an A100 in TensorFloat-32, half used).
_GPU_SPEED = 6e13
#: Forward passes that a training step costs.
_TRAINING_PASSES = 3
#: The epochs of the paper's fine-tuning.
_EPOCHS = 3
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


def estimate_costs(plans: Mapping[Published, Plan]) -> list[ExpectedCost]:
    """Estimate the cost of each experiment from its encoder's configuration and its data; no weights are fetched.

    Raises:
        ModelError: If an encoder cannot be looked up.
    """
    from cahp.models.sketch import operations

    encoders = {experiment.hub for experiment in plans}
    cards = {name: models.preview(name) for name in encoders}
    costs = []
    for experiment, plan in plans.items():
        card = cards[experiment.hub]
        sizes = PRESETS[experiment.data].splits
        settings = plan.settings
        texts = sizes["train"]
        if settings.limit is not None:
            texts = min(settings.limit, texts)
        evaluated = sizes["validation"]
        if settings.eval_limit is not None:
            evaluated = min(settings.eval_limit, evaluated)
        if settings.report:
            evaluated += sizes["test"]
        seeds = len(plan.seeds)
        masks = len(plan.methods) * seeds
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
        working = 4 * 4 * (card.details or {}).get("parameters", 0)
        if not card.no_refit:
            working = max(working, _HIDDEN_STATES * 4 * card.hidden * experiment.tokens * refit_texts(texts))
        memory = preflight(card)["memory_bytes"] + working
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
    plans = plan_experiments(**options)
    output = Output.of(out)
    store = store or open_store()
    output.check_files((FILE, _TABLE), _MARK)
    with show_progress(progress, yes=yes) as reporter:
        reporter.say("\n".join(announcement(estimate_costs(plans))))
        for experiment in plans:
            # Fetched here, so that a person is asked once, before hours of work.
            models.identify(experiment.hub)
            data.load(experiment.data)
        rows: list[dict[str, Any]] = []
        for experiment, plan in plans.items():
            folder = output.folder.resolve()
            classifier = folder / "classifiers" / experiment.name
            how: dict[str, Any] = {"store": store, "progress": reporter}
            # The folder of an earlier call is found again. The test split is opened only on request.
            fit(plan.settings, out=classifier, whole=True, measured=(), limit=plan.settings.limit, **how)
            of_classifier = replace(plan, settings=replace(plan.settings, model=str(classifier)))
            comparison = compare(of_classifier, jobs=jobs, cluster=cluster, command=command, **how)
            comparison.write(folder / experiment.name)
            rows += _list_rows(experiment, comparison.results_on(comparison.document.parts[-1], "accuracy"))
    plan = next(iter(plans.values()))
    request = {
        "experiments": [experiment.name for experiment in plans],
        "methods": plan.methods,
        "recoveries": plan.recoveries,
        "seeds": plan.seeds,
        "limit": options.get("limit"),
        "eval_limit": options.get("eval_limit"),
        "report": options.get("report"),
        "device": plan.settings.device,
    }
    document = {"schema": SCHEMA, "source": _SOURCE, "asked": request, "rows": rows, "command": command}
    with UnwrittenError.carrying(document):
        output.write({FILE: json_text(document).encode(), _TABLE: ("\n".join(table(rows)) + "\n").encode()})
    return document


def open_store(*, fresh: bool = False) -> Store:
    """The user's cache with room for large trainings; a ``fresh`` one finds nothing."""
    return Store(limit_bytes=_CACHE_BYTES, fresh=fresh)


class ExperimentOptions(TypedDict, total=False):
    """The options of ``reproduce``, each a list or a text with commas where several are meant.

    ``experiments`` are names such as ``bert-base-cased-sst5`` (default: all four). By default ``methods`` are
    complementary and random, ``recover`` all recoveries but ``refit-finetune``, and ``seeds`` three. ``limit`` is the
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


def plan_experiments(**options: Unpack[ExperimentOptions]) -> dict[Published, Plan]:
    """Return the comparison of each experiment, of its encoder until that is fine-tuned; None stands for the default.

    Raises:
        OptionError: If a name is unknown or an option invalid.
    """
    known = [experiment.name for experiment in PUBLISHED]
    names = read_items(options.get("experiments") or known)
    for name in names:
        if name not in known:
            raise OptionError(f"--experiments {name} is unknown; choose among {', '.join(known)}")
    # The paper reports one seed as far as we know; three show how much the seed matters.
    wanted = options.get("seeds")
    if wanted is None:
        wanted = 3
    seeds = read_seeds(wanted)
    plans = {}
    for experiment in PUBLISHED:
        if experiment.name not in names:
            continue
        report = options.get("report")
        # The published test split of MNLI has no labels.
        if "test" not in PRESETS[experiment.data].splits:
            report = None
        settings = Settings(
            model=experiment.hub,
            data=experiment.data,
            limit=options.get("limit"),
            eval_limit=options.get("eval_limit"),
            pool_size=experiment.pool_size,
            max_length=PUBLISHED_LENGTH,
            device=options.get("device", "auto"),
            report=report,
        )
        plans[experiment] = Plan(
            settings,
            methods=read_items(options.get("methods") or (REFERENCE, "random")),
            budgets=(str(experiment.kept),),
            seeds=seeds,
            recoveries=read_items(options.get("recover") or TRAINED_ONCE),
            # One random mask per seed, so that each method is recovered equally often.
            draws=len(seeds),
        )
    return plans


_SOURCE = "published numbers: arXiv 2606.19150, from secondary sources, of one seed as far as known"


def _list_rows(experiment: Published, results: SplitResults) -> list[dict[str, Any]]:
    """Return a row for the full model and each method, by recovery."""
    shared = {
        "experiment": experiment.name,
        "split": results.split,
        "n": results.n,
        "seeds": len(results.document.seeds),
        "of": results.total,
        "kl": None,
        "agreement": None,
    }
    rows = []
    for recovery, accuracy in results.full.items():
        row = {**shared, "method": "all heads", "kept": results.total, "recovery": recovery, "accuracy": accuracy}
        row["interval"] = None
        row["published"] = experiment.full if recovery == "none" else None
        rows.append(row)
    for (recovery, method, budget), mean in results.means.items():
        row = {**shared, "method": method, "kept": budget, "recovery": recovery, "accuracy": mean.accuracy.value}
        row["interval"] = [mean.accuracy.low, mean.accuracy.high]
        row["published"] = None
        if method == REFERENCE and recovery == "finetune":
            row["published"] = experiment.pruned
        row["kl"] = mean.outcomes["kl"].value
        row["agreement"] = mean.outcomes["agreement"].value
        rows.append(row)
    return rows


def announcement(costs: Sequence[ExpectedCost]) -> list[str]:
    """The cost of all experiments, for a person to read before they begin."""
    width = max(len(cost.name) for cost in costs)
    lines = [
        f"  {cost.name:<{width}}  about {duration(3600 * cost.hours_here)} on this machine, "
        f"{duration(3600 * cost.hours_gpu)} on one modern GPU; {size_of(cost.memory_bytes)} of memory"
        for cost in costs
    ]
    here = sum(cost.hours_here for cost in costs)
    gpu = sum(cost.hours_gpu for cost in costs)
    total = f"about {duration(3600 * here)} on this machine, {duration(3600 * gpu)} on one modern GPU"
    counted = "operations counted from the configuration"
    return [
        f"{len(costs)} experiments: {total} ({counted})",
        *lines,
        f"texts are cut at {PUBLISHED_LENGTH} tokens, as published",
    ]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as a Markdown table."""
    lines = [
        "| experiment | heads | method | recovery | accuracy here | published |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy = percent(row["accuracy"])
        if row["interval"] is not None:
            low, high = row["interval"]
            accuracy += f" {interval(100 * low, 100 * high)}"
        published = ""
        if row["published"] is not None:
            published = f"{row['published']:.1f}"
        lines.append(
            f"| {row['experiment']} | {row['kept']} of {row['of']} | {row['method']} | {row['recovery']} | "
            f"{accuracy} | {published} |"
        )
    splits = ", ".join(dict.fromkeys(f"{row['experiment']} {row['split']} (n = {row['n']:,})" for row in rows))
    return [
        *lines,
        "",
        f"Measured on {splits}; means over seeds with 95 % intervals; texts cut at {PUBLISHED_LENGTH} tokens, as "
        f"published. P{_SOURCE[1:]}.",
    ]
