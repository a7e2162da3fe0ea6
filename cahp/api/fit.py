"""``cahp.fit``: train a classifier on an encoder, to be pruned like any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from cahp import data as data_sets
from cahp import models
from cahp.api.keywords import DataOptions
from cahp.api.options import Name, ShowProgress, check_bounds, read_settings, show_progress
from cahp.data.dataset import SPLITS
from cahp.exports.checkpoints import claimed
from cahp.models.cards import ModelCard
from cahp.outcomes import Outcomes, measure, to_metrics
from cahp.output import Output, UnwrittenError
from cahp.run.resources import Resources, SplitRecord, TestSplitLog, cut_notices, record_split
from cahp.run.settings import Settings
from cahp.store import Store, StoredTraining, key
from cahp.tasks.texts import Texts
from cahp.values import CahpError, ModelError, OptionError, Progress, SelfTestError

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel
    from cahp.models.training import Fitted, Schedule


def fit(
    model: Name | Settings = "minilm",
    data: Name | None = None,
    *,
    out: Name | Output,
    save: str = "model",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    rank: int | None = None,
    whole: bool = False,
    limit: int | None = None,
    seed: int | None = None,
    measured: Sequence[str] = ("validation", "test"),
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[DataOptions],
) -> dict[str, Any]:
    """Train a classifier on the ``train`` split, and keep the best epoch on ``validation``.

    Args:
        model: An encoder: a built-in, a hub id or a folder; or a ``Settings`` with all options.
        data: Labelled texts: a built-in, a file, a folder or ``hub:org/name``.
        out: The folder to write to. A classifier in it from the same training is not trained again.
        save: ``"model"``: a whole checkpoint; ``"adapter"``: the adapter alone.
        epochs: Number of passes over the texts (None: 4, or 3 for ``whole``).
        learning_rate: Highest learning rate (None: 5e-4, or 2e-5 for ``whole``).
        batch: Number of texts per batch (None: 32).
        rank: Rank of the low-rank adapters (LoRA) (None: 16).
        whole: Train all weights, as the paper does; an interrupted training resumes after its last epoch.
        limit: Number of training texts (None: that of the ``Settings`` if it differs from its default, else all).
        seed: Seed of the training and of the sample of texts (None: that of the ``Settings``, else 42).
        measured: Splits on which the classifier is evaluated after it was read back from ``out``.
        progress, yes, store: See ``cahp.prune``.
        **options: ``device`` and the columns of the data.

    Returns:
        The document that ``cahp fit --json`` prints.

    Raises:
        CahpError: If model and data do not fit together, or the training diverges.
        UnwrittenError: If the folder cannot be written; the error carries the document.
    """
    from cahp.models import training
    from cahp.stages.evaluation import evaluate

    settings = read_settings("fit", model, data, options, own={"limit": limit, "seed": seed})
    if limit is None and settings.limit == Settings.limit:
        # The default of the field is that of calibration texts; a training reads all texts.
        settings = replace(settings, limit=None)
    store = store or Store()
    _check_save(save, whole=whole)
    check_bounds(epochs=epochs, learning_rate=learning_rate, batch=batch, rank=rank)
    unknown = [split for split in measured if split not in SPLITS]
    if unknown:
        raise OptionError(f"measured names the split {unknown[0]!r}; choose of {', '.join(SPLITS)}")
    if settings.data is None:
        raise OptionError("no training texts are given; name them with --data")
    schedule = training.LORA_SCHEDULE
    used: int | None = rank or training.RANK
    if whole:
        if rank is not None:
            raise OptionError("--rank is that of adapters, and --whole trains all weights; leave it out")
        schedule = training.PAPER_SCHEDULE
        used = None
    changes: dict[str, Any] = {"epochs": epochs, "learning_rate": learning_rate, "batch": batch}
    schedule = replace(schedule, **{name: value for name, value in changes.items() if value is not None})
    with show_progress(progress, yes=yes) as reporter:
        card = replace(models.identify(settings.model), max_length=settings.max_length)
        output = claimed(Output.of(out), card)
        dataset = data_sets.load(settings.data, **settings.columns)
        if not dataset.labelled:
            raise OptionError(f"{dataset.id} has no labels to learn from; name their column with --label-column")
        texts, notices = data_sets.sample(dataset.split("train"), settings.limit, seed=settings.seed)
        task = _Training(card, texts, dataset.split("validation"), schedule, used, settings)
        fitted = None
        history = None
        if whole and not store.fresh:
            history = _read_epochs(output, task.key)
        if history is None:
            fitted = task.run(store, reporter)
            history = [asdict(epoch) for epoch in fitted.history]
        document: dict[str, Any] = {
            "model": card.id,
            "data": {"id": dataset.id, "train": SplitRecord.of("train", texts)},
            "epochs": history,
            "metrics": None,
            "outcomes": None,
            "test_opened": None,
            "notices": [*dataset.notices, *notices],
        }
        folder = output.folder
        if fitted is not None:
            with UnwrittenError.carrying(document):
                folder = task.write(fitted, output, save)
        classifier = task.read_back(folder, save)
        log = TestSplitLog(classifier.card, dataset, store)
        outcomes: dict[str, Outcomes] = {}
        for split in measured:
            if split in dataset.splits:
                log.open(split)
                evaluation = evaluate(classifier, dataset.split(split), progress=reporter)
                outcomes[split] = measure(evaluation, seed=settings.seed)
    metrics = {split: to_metrics(measured_outcomes) for split, measured_outcomes in outcomes.items()}
    resources = Resources(classifier.card, store=store, model=classifier)
    trained = record_split(resources, "train", texts)
    return {
        **document,
        "data": {"id": dataset.id, "train": trained},
        "metrics": metrics,
        "outcomes": outcomes,
        "test_opened": log.count,
        "notices": [*document["notices"], *cut_notices(resources, {"train": texts})],
    }


def _check_save(save: str, *, whole: bool) -> None:
    """Check what is to be saved.

    Raises:
        OptionError: If it is unknown, or cannot hold what is trained.
    """
    if save not in ("model", "adapter"):
        raise OptionError(f"--save {save} is unknown; choose model or adapter")
    if whole and save == "adapter":
        raise OptionError("--whole trains all weights, and an adapter cannot hold them; leave --save out")


@dataclass(frozen=True, eq=False)
class _Training:
    """The training of a classifier on ``texts``; ``rank`` is that of its adapters (None: all weights are trained)."""

    card: ModelCard
    texts: Texts
    validation: Texts
    schedule: Schedule
    rank: int | None
    settings: Settings

    @cached_property
    def key(self) -> str:
        """The key of all that the weights depend on."""
        digests = (self.card.sha256, self.texts.sha256, self.validation.sha256)
        return key("fit", 2, *digests, asdict(self.schedule), self.settings.seed, self.settings.max_length)

    def run(self, store: Store, progress: Progress) -> Fitted:
        """Train it; if all weights are trained, an interrupted training is resumed.

        Raises:
            CahpError: If the training diverges.
        """
        from cahp.models import training

        hooks = training.Hooks("fit", progress)
        if self.rank is None:
            hooks = replace(hooks, checkpoint=StoredTraining(store, key("fitting", 3, self.key)))
        fitted = training.fit(
            self.card,
            self.texts,
            validation=self.validation,
            schedule=self.schedule,
            rank=self.rank,
            device=self.settings.device,
            seed=self.settings.seed,
            hooks=hooks,
        )
        if not all(bool(weight.isfinite().all()) for weight in fitted.network.parameters()):
            raise CahpError("the training diverged: its weights are no longer finite numbers; lower --learning-rate")
        return fitted

    def write(self, fitted: Fitted, output: Output, save: str) -> Path:
        """Write the trained classifier, and return its folder.

        Raises:
            UnwrittenError: If it cannot be written.
        """
        from cahp.models import saving

        tokenizer = fitted.model.tokenizer
        if self.rank is None:
            epochs = [asdict(epoch) for epoch in fitted.history]

            def describe(part: Path) -> dict[str, Any]:
                return {"key": self.key, "sha256": models.identify(str(part)).identity, "epochs": epochs}

            # Described beside the weights, so that an interruption after this point does not lose the training.
            return saving.save_network(fitted.network, tokenizer, output, made=describe)
        if save == "adapter":
            return saving.save_adapter(fitted, output)
        return saving.save_network(fitted.network.merge_and_unload(), tokenizer, output)

    def read_back(self, folder: Path, save: str) -> HeadModel:
        """Load the classifier that was written to ``folder``.

        Raises:
            SelfTestError: If it cannot be used.
        """
        try:
            adapted = replace(self.card, labels=self.texts.classes, adapter=str(folder))
            if save != "adapter":
                adapted = models.identify(str(folder.resolve()))
            written = replace(adapted, max_length=self.settings.max_length)
            return models.load(written, device=self.settings.device)
        except SelfTestError as error:
            raise SelfTestError(
                f"the classifier in {folder} cannot be used ({error}); train again with a lower --learning-rate"
            ) from None


def _read_epochs(output: Output, name: str) -> list[dict[str, Any]] | None:
    """Read the epochs of the training ``name`` if its classifier is in the folder, unchanged."""
    origin = output.made
    if origin.get("key") != name:
        return None
    try:
        card = models.identify(str(output.folder.resolve()))
    except ModelError:
        return None
    if card.identity != origin.get("sha256"):
        return None
    return origin.get("epochs")
