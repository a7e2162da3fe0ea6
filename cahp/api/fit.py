"""``cahp.fit``: train a classifier on an encoder, to be pruned like any other."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Unpack

from cahp import data as data_sets, models
from cahp.api.options import AnyData, Name, ShowProgress, check_bounds, read_settings, show_progress
from cahp.data.dataset import SPLITS
from cahp.exports.checkpoints import claimed
from cahp.outcomes import Outcomes, measure, to_metrics
from cahp.output import AnyFolder
from cahp.run.keywords import DataOptions
from cahp.run.resources import Resources, TestSplitLog, cut_notices, record_split
from cahp.run.settings import Settings
from cahp.store import Store, StoredTraining, key
from cahp.values import CahpError, JsonObject, OptionError, SelfTestError, check_known


def fit(
    model: Name | Settings = "minilm",
    data: AnyData | None = None,
    *,
    out: AnyFolder,
    save: str = "model",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    rank: int | None = None,
    whole: bool = False,
    limit: int | None = None,
    seed: int | None = None,
    measured: Sequence[str] = ("validation",),
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[DataOptions],
) -> JsonObject:
    """Train a classifier on the ``train`` split, and keep the best epoch on ``validation``.

    Args:
        model: An encoder: a built-in, a hub id or a folder; or a ``Settings`` with all options.
        data: Labelled texts: a built-in, a file, a folder or ``hub:org/name``.
        out: The folder to write to.
        save: ``"model"``: a whole checkpoint; ``"adapter"``: the adapter alone.
        epochs: Number of passes over the texts (None: 4, or 3 for ``whole``).
        learning_rate: Highest learning rate (None: 5e-4, or 2e-5 for ``whole``).
        batch: Number of texts per batch (None: 32).
        rank: Rank of the low-rank adapters (LoRA) (None: 16).
        whole: Train all weights, as the paper does; an interrupted training resumes after its last epoch.
        limit: Number of training texts (None: that of the ``Settings`` if it differs from its default, else all).
        seed: Seed of the training and of the sample of texts (None: that of the ``Settings``, else 42).
        measured: Splits on which the classifier is evaluated after it was read back from ``out``. ``report="test"``
            adds the test split; each opening is counted.
        progress, yes, store: See ``cahp.prune``.
        **options: ``device``, ``report`` and the columns of the data.

    Returns:
        The document that ``cahp fit --json`` prints.

    Raises:
        CahpError: If model and data do not fit together, or the training diverges.
    """
    from cahp.models import saving, training
    from cahp.stages.evaluation import evaluate

    settings = read_settings("fit", model, data, options, own={"limit": limit, "seed": seed})
    if limit is None and settings.limit == Settings.limit:
        # The default of the field is that of calibration texts; a training reads all texts.
        settings = replace(settings, limit=None)
    store = store or Store()
    check_known("--save", save, ("model", "adapter"))
    if whole and (save == "adapter" or rank is not None):
        raise OptionError("--whole trains all weights, and no adapter; leave --save and --rank out")
    changes = check_bounds(epochs=epochs, learning_rate=learning_rate, batch=batch)
    check_bounds(rank=rank)
    for split in measured:
        check_known("split", split, SPLITS)
    if settings.data is None:
        raise OptionError("no training texts are given; name them with --data")
    schedule = training.LORA_SCHEDULE
    used: int | None = rank or training.RANK
    if whole:
        schedule = training.PAPER_SCHEDULE
        used = None
    schedule = replace(schedule, **changes)
    with show_progress(progress, yes=yes) as reporter:
        card = replace(models.identify(settings.model), max_length=settings.max_length)
        output = claimed(out, card)
        dataset = data_sets.load(settings.data, **settings.columns)
        if not dataset.labelled:
            raise OptionError(f"{dataset.id} has no labels to learn from; name their column with --label-column")
        texts, notices = data_sets.sample(dataset.split("train"), settings.limit, seed=settings.seed)
        validation = dataset.split("validation")
        hooks = training.Hooks("fit", reporter)
        if whole:
            facts = (asdict(schedule), settings.seed, settings.max_length)
            name = key("fitting", 5, card.sha256, texts.sha256, validation.sha256, *facts)
            hooks = replace(hooks, checkpoint=StoredTraining(store, name))
        trained, history = training.fit(
            card,
            texts,
            validation=validation,
            schedule=schedule,
            rank=used,
            device=settings.device,
            seed=settings.seed,
            hooks=hooks,
        )
        if not training.is_finite(trained.network):
            raise CahpError("the training diverged: its weights are no longer finite numbers; lower --learning-rate")
        if save == "adapter":
            folder = saving.save_adapter(trained, output)
            written = replace(card, labels=texts.classes, adapter=str(folder))
        else:
            network = trained.network
            if not whole:
                network = network.merge_and_unload()
            folder = saving.save_network(network, trained.tokenizer, output)
            written = models.identify(str(folder.resolve()))
        try:
            written = replace(written, max_length=settings.max_length)
            classifier = models.load(written, device=settings.device)
        except SelfTestError as error:
            raise SelfTestError(
                f"the classifier in {folder} cannot be used ({error}); train again with a lower --learning-rate"
            ) from None
        log = TestSplitLog(classifier.card, dataset, store)
        outcomes: dict[str, Outcomes] = {}
        for split in dataset.splits:
            if split in (*measured, settings.report):
                log.open(split)
                evaluation = evaluate(classifier, dataset.split(split), progress=reporter)
                outcomes[split] = measure(evaluation, seed=settings.seed)
    resources = Resources(classifier.card, store=store, model=classifier)
    return {
        "model": card.id,
        "data": {"id": dataset.id, "train": record_split(resources, "train", texts)},
        "epochs": [asdict(epoch) for epoch in history],
        "metrics": {split: to_metrics(measured_outcomes) for split, measured_outcomes in outcomes.items()},
        "outcomes": outcomes,
        "test_opened": log.count,
        "notices": [*dataset.notices, *notices, *cut_notices(resources, {"train": texts})],
    }
