"""The published experiment: classifiers fine-tuned, pruned and recovered as the paper does, and by our recoveries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cahp import data, hub, models
from cahp.cards import ModelCard
from cahp.comparison.engines import default_jobs, open_executor, raise_if_stopped, wait_for
from cahp.comparison.plan import COMPARED, REFERENCE, Plan
from cahp.comparison.result import Comparison
from cahp.comparison.running import compare
from cahp.data.sources import PRESETS
from cahp.files import json_text, write_whole
from cahp.output import Mark, Output, UnwrittenError
from cahp.recoveries import RECOVERIES, refit_texts
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.tasks.fit import fit, training_key
from cahp.tasks.inspect import expected_seconds
from cahp.tasks.inspect import looked as preflight
from cahp.values import OptionError, Progress, silent
from cahp.words import interval, percent

SCHEMA = "cahp.reproduction/1"
FILE = "reproduction.json"
_TABLE = "reproduction.md"
_MARK = Mark(FILE, "cahp.reproduction")
#: Operations of a second that training and inference reach on one modern GPU (an A100's TensorFloat-32, half used).
_GPU = 6e13
#: Passes of a forward and a backward pass together, and the epochs of the paper's fine-tuning.
_TRAINED, _EPOCHS = 3, 3
#: Signatures of each calibration text, and gradients through a quarter of them.
_CHOOSING = 1.5
#: Hidden states of all tokens that a refit holds at once.
_HIDDEN_STATES = 4
#: Bytes that the store may take meanwhile: a training of BERT-large that was stopped is five gigabytes.
_ROOM = 16 << 30


@dataclass(frozen=True)
class Published:
    """An experiment of the paper (arXiv 2606.19150) and what it reports, known to us at second hand.

    ``kept`` of ``heads`` heads; accuracies in per cent of the fine-tuned model, all heads (``full``) and pruned and
    fine-tuned again (``pruned``); ``tokens`` of a usual input.
    """

    model: str
    data: str
    heads: int
    kept: int
    full: float
    pruned: float
    pool_size: int
    tokens: int

    @property
    def name(self) -> str:
        """What it is called, and its folder."""
        return f"{self.model}-{self.data}"

    @property
    def hub(self) -> str:
        """Where its encoder is on the hub."""
        return f"google-bert/{self.model}"

    def budget(self, *, layers: int, heads: int) -> int:
        """Heads to keep: of the paper's model the paper's number, of another the same share, one a layer at least."""
        return max(layers, round(self.kept * layers * heads / self.heads))


PUBLISHED = (
    Published("bert-base-cased", "sst5", 144, 26, 53.6, 51.0, 32, 26),
    Published("bert-base-cased", "mnli", 144, 28, 84.2, 81.8, 48, 42),
    Published("bert-large-cased", "sst5", 384, 59, 56.8, 53.3, 32, 26),
    Published("bert-large-cased", "mnli", 384, 57, 86.5, 84.0, 48, 42),
)
#: The paper's rows are of one seed as far as we know; these tell how much seeds matter.
SEEDS = (42, 43, 44)
METHODS = (REFERENCE, "random")


@dataclass(frozen=True)
class Expected:
    """What an experiment takes: operations, and hours on this machine and on one modern GPU."""

    name: str
    operations: float
    hours_here: float
    hours_gpu: float
    memory_bytes: int


@dataclass(frozen=True)
class Asked:
    """Which experiments, and how: samples of all texts where ``limit`` and ``eval_limit`` are None."""

    experiments: tuple[str, ...] = tuple(one.name for one in PUBLISHED)
    methods: tuple[str, ...] = METHODS
    recoveries: tuple[str, ...] = COMPARED
    seeds: tuple[int, ...] = SEEDS
    limit: int | None = None
    eval_limit: int | None = None
    report: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        known = [one.name for one in PUBLISHED]
        for name in self.experiments:
            if name not in known:
                raise OptionError(f"--experiments {name} is unknown; choose among {', '.join(known)}")
        for one in self.chosen:
            # Impossible methods, seeds and recoveries are said before anything is fetched.
            self.plan(one, Path(one.name), one.kept)

    @property
    def chosen(self) -> list[Published]:
        """The experiments, in the order of the paper."""
        return [one for one in PUBLISHED if one.name in self.experiments]

    def reported(self, one: Published) -> str | None:
        """The split to report on; the published test split of MNLI has no labels."""
        return self.report if "test" in PRESETS[one.data].splits else None

    def plan(self, one: Published, classifier: Path, budget: int) -> Plan:
        """The comparison of one experiment."""
        settings = Settings(
            model=str(classifier),
            data=one.data,
            limit=self.limit,
            eval_limit=self.eval_limit,
            pool_size=one.pool_size,
            device=self.device,
            report=self.reported(one),
        )
        return Plan(
            settings,
            methods=self.methods,
            budgets=(str(budget),),
            seeds=self.seeds,
            recoveries=self.recoveries,
            # A mask of chance a seed: each is recovered as long as the others.
            draws=len(self.seeds),
        )


def expected(asked: Asked) -> list[Expected]:
    """What each experiment will take, by its encoder's configuration and the sizes of its data; no weight is fetched.

    Raises:
        ModelError: If an encoder cannot be looked at.
    """
    cards = {one.hub: models.preview(one.hub) for one in asked.chosen}
    return [_expected(asked, one, cards[one.hub]) for one in asked.chosen]


def _expected(asked: Asked, one: Published, card: ModelCard) -> Expected:
    sizes = PRESETS[one.data].splits
    texts = sizes["train"] if asked.limit is None else min(asked.limit, sizes["train"])
    evaluated = sizes["validation"] if asked.eval_limit is None else min(asked.eval_limit, sizes["validation"])
    if asked.reported(one):
        evaluated += sizes["test"]
    passes = _EPOCHS * (_TRAINED * texts + sizes["validation"]) + len(asked.seeds) * _CHOOSING * texts
    by_recovery = {name: row.passes(texts, can_refit=card.no_refit is None) for name, row in RECOVERIES.items()}
    # Besides the methods' masks the full model, which a training alone may change.
    masks = len(asked.methods) * len(asked.seeds)
    passes += masks * sum(by_recovery[name] + evaluated for name in {"none", *asked.recoveries})
    labelled = sum(by_recovery[name] for name in asked.recoveries if RECOVERIES[name].needs_labels)
    passes += len(asked.seeds) * (evaluated + labelled)
    from cahp.models.counting import operations

    work = passes * one.tokens * operations(card)
    seconds = expected_seconds(card, tokens=1) / operations(card) * work
    # A training has weights, gradients and both of the optimiser's moments; a refit hidden states of all its tokens.
    training = 4 * 4 * (card.details or {}).get("parameters", 0)
    refit = _HIDDEN_STATES * 4 * card.hidden * one.tokens * refit_texts(texts)
    memory = preflight(card)["memory_bytes"] + max(training, 0 if card.no_refit else refit)
    return Expected(one.name, work, seconds / 3600, work / _GPU / 3600, memory)


def reproduce(
    asked: Asked,
    *,
    out: Path | Output,
    store: Store | None = None,
    jobs: int | None = 1,
    cluster: str | None = None,
    command: str = "",
    progress: Progress = silent,
    announce: Callable[[Sequence[Expected]], None] = lambda _: None,
) -> dict[str, Any]:
    """Fine-tune, prune and recover, and write one table beside the published numbers to ``out``.

    What is done by then is found again: classifiers in ``out``, a training where it stopped and each mask's answers in
    the store. ``announce`` hears first what everything takes. ``out`` holds a folder for each experiment, which the
    Compare page opens.

    Raises:
        CahpError: If an experiment cannot be done, with the next step.
        UnwrittenError: If the table cannot be written; it says what is in it.
    """
    output, store = Output.of(out), store or Store(limit_bytes=_ROOM)
    output.check_files((FILE, _TABLE), _MARK)
    place = output.folder.resolve()
    announce(expected(asked))
    for one in asked.chosen:
        # Here, so that a person is asked once, before hours of work.
        models.identify(one.hub)
        data.load(one.data)
    jobs = jobs or (1 if cluster else default_jobs(asked.device))
    with open_executor(jobs=min(jobs, len(asked.chosen)), cluster=cluster, device=asked.device) as executor:
        here = jobs == 1 and cluster is None
        folder = store.folder.parent if cluster is None else None
        report = _training(progress) if here else raise_if_stopped
        work = partial(_classifier, asked=asked, out=place, cache=folder, progress=report)
        classifiers = [wait_for(future) for future in [executor.submit(work, one) for one in asked.chosen]]
    rows: list[dict[str, Any]] = []
    for one, classifier in zip(asked.chosen, classifiers, strict=True):
        card = models.identify(str(classifier))
        plan = asked.plan(one, classifier, one.budget(layers=card.layers, heads=card.heads))
        found = compare(plan, store=store, jobs=jobs, cluster=cluster, command=command, progress=progress)
        found.write(place / one.name)
        rows += _rows(one, found)
    document = {"schema": SCHEMA, "source": _SOURCE, "asked": asdict(asked), "rows": rows, "command": command}
    with UnwrittenError.carrying(document):
        output.write({FILE: json_text(document).encode(), _TABLE: ("\n".join(table(rows)) + "\n").encode()})
    return document


_SOURCE = "published numbers: arXiv 2606.19150, second hand, of one seed as far as known"


def _training(progress: Progress) -> Progress:
    """Reports how far a training is, whatever goes on beside it."""
    last = (0, 1)

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last
        last = (done, total) if stage == "fit" else last
        progress("fit", *last)

    return report


def _classifier(one: Published, *, asked: Asked, out: Path, cache: Path | None, progress: Progress) -> Path:
    """The fine-tuned classifier of an experiment, made unless the same one is there; here or in a worker."""
    from cahp.models.whole import PAPER_SCHEDULE

    folder = out / "classifiers" / one.name
    note = folder.with_name(f"{one.name}.json")
    settings = Settings(model=one.hub, data=one.data, device=asked.device)
    with hub.consent_from(lambda *_: True):
        card, texts = models.identify(one.hub), data.load(one.data)
        sample, _ = data.sample(texts.split("train"), asked.limit, seed=settings.seed)
        name = training_key(
            card, sample, validation=texts.split("validation"), schedule=PAPER_SCHEDULE, seed=settings.seed
        )
        if note.is_file() and name in note.read_text() and folder.is_dir():
            return folder
        found = fit(
            settings,
            out=folder,
            schedule={},
            limit=asked.limit,
            whole=True,
            # The test split is opened on request alone.
            measured=("validation",),
            store=Store(cache, limit_bytes=_ROOM),
            progress=progress,
        )
    write_whole(note.parent, {note.name: json_text({"key": name, **found}).encode()})
    return folder


def _rows(one: Published, found: Comparison) -> list[dict[str, Any]]:
    """A row for the full model and each method, by recovery."""
    results = found.results
    heads, seeds = results.total, len(found.document.seeds)
    shared = {"experiment": one.name, "split": results.split, "n": results.n, "seeds": seeds, "of": heads}
    rows = [
        {**shared, "method": "all heads", "kept": heads, "recovery": recovery, "accuracy": accuracy, "interval": None}
        | {"published": one.full if recovery == "none" else None}
        for recovery, accuracy in results.full.items()
    ]
    for (recovery, method, budget), mean in results.means.items():
        theirs = method == REFERENCE and recovery == "finetune"
        rows.append(
            {**shared, "method": method, "kept": budget, "recovery": recovery, "accuracy": mean.accuracy}
            | {"interval": [mean.low, mean.high], "published": one.pruned if theirs else None}
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as a table that a person reads."""
    lines = [
        "| experiment | heads | method | recovery | here, per cent right | published |",
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
