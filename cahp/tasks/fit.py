"""Train a classifier on an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp import data, models
from cahp import processes as parallel
from cahp.cards import ModelCard
from cahp.export.checkpoints import claimed
from cahp.outcomes import measure, to_metrics
from cahp.output import Output, UnwrittenError
from cahp.run.document import SplitRecord
from cahp.run.settings import Settings
from cahp.run.stored_training import StoredTraining
from cahp.store import Store, key
from cahp.values import CahpError, ModelError, OptionError, Progress, SelfTestError, Texts, silent

if TYPE_CHECKING:
    from cahp.models.training import Schedule


def fit(
    settings: Settings,
    *,
    out: Path | Output,
    save: str = "model",
    schedule: Mapping[str, Any],
    rank: int = 16,
    limit: int | None = None,
    whole: bool = False,
    measured: Sequence[str] = ("validation", "test"),
    store: Store | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a classifier with low-rank adapters on the ``train`` split; the best epoch on ``validation`` is kept.

    With ``whole`` all weights are trained, with a ``store`` such a training that was stopped is resumed, and one whose
    classifier lies in ``out`` is not done again. The result is ``measured`` as it was written: read back from ``out``.

    Raises:
        CahpError: If model and data do not go together, or training goes astray.
        UnwrittenError: If it cannot be written; it says how the training went.
    """
    from cahp.models import folders, lora
    from cahp.models import whole as whole_model
    from cahp.stages.evaluation import evaluate as answers

    if save not in ("model", "adapter"):
        raise OptionError(f"--save {save} is unknown; choose model or adapter")
    card = models.identify(settings.model)
    if settings.data is None:
        raise OptionError("name the texts to learn from with --data")
    output = claimed(out, card)
    dataset = data.load(settings.data, **settings.columns)
    texts, notices = data.sample(dataset.split("train"), limit, seed=settings.seed)
    validation = dataset.split("validation")
    network, epochs = None, None
    if whole:
        if save == "adapter":
            raise OptionError("--whole trains all weights, which no adapter holds; leave --save out")
        slow = replace(whole_model.PAPER_SCHEDULE, **schedule)
        name = training_key(card, texts, validation=validation, schedule=slow, seed=settings.seed)
        epochs = _finished(output, name)
        if epochs is None:
            trained, history = whole_model.fit(
                card,
                texts,
                validation=validation,
                schedule=slow,
                device=settings.device,
                seed=settings.seed,
                progress=progress,
                checkpoint=None if store is None else StoredTraining(store, name),
            )
            network, epochs = trained.network, [asdict(epoch) for epoch in history]
    else:
        fitted = lora.fit(
            card,
            texts,
            validation=validation,
            schedule=replace(lora.LORA_SCHEDULE, **schedule),
            rank=rank,
            device=settings.device,
            seed=settings.seed,
            progress=progress,
        )
        network, epochs = fitted.peft, [asdict(epoch) for epoch in fitted.history]
    if network is not None and not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise CahpError("training went astray: the weights are no longer finite numbers; lower --learning-rate")
    found = {
        "model": card.id,
        "data": {"id": dataset.id, "train": SplitRecord.of("train", texts)},
        "epochs": epochs,
        "metrics": None,
        "outcomes": None,
        "notices": [*dataset.notices, *notices],
    }
    with UnwrittenError.carrying(found):
        if network is None:
            folder = output.folder
        elif whole:
            # With the weights, so that whatever stops what follows, the training is not lost.
            folder = folders.save_network(
                network,
                trained.tokenizer,
                output,
                made=lambda part: {"key": name, "sha256": models.identify(str(part)).sha256, "epochs": epochs},
            )
        elif save == "adapter":
            folder = folders.save_adapter(fitted, output, base=folders.base_name(card))
        else:
            folder = folders.save_merged(fitted, output)
    try:
        if save == "adapter":
            made = folders.load_adapter(card, folder, labels=texts.classes, device=settings.device)
        else:
            made = models.load(str(folder.resolve()), device=settings.device)
    except SelfTestError as error:
        raise SelfTestError(
            f"the classifier in {folder} is of no use ({error}); train again with a lower --learning-rate"
        ) from None
    outcomes_of = {
        split: measure(answers(made, dataset.split(split), progress=progress), seed=settings.seed)
        for split in measured
        if split in dataset.splits
    }
    return {
        **found,
        "metrics": {split: to_metrics(outcomes) for split, outcomes in outcomes_of.items()},
        "outcomes": outcomes_of,
    }


def training_key(card: ModelCard, texts: Texts, *, validation: Texts, schedule: Schedule, seed: int) -> str:
    """What tells a training of all weights from others."""
    return key("fit", 1, card.sha256, texts.sha256, validation.sha256, asdict(schedule), seed)


def _finished(output: Output, name: str) -> list[dict[str, Any]] | None:
    """The epochs of the training ``name`` if its classifier lies in the folder, as it was written."""

    def found() -> list[dict[str, Any]] | None:
        made = output.made
        if made.get("key") != name:
            return None
        try:
            there = models.identify(str(output.folder.resolve()))
        except ModelError:
            return None
        return made.get("epochs") if there.sha256 == made.get("sha256") else None

    return parallel.from_first(found)
