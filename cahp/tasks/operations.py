"""What people ask of a model besides choosing heads: evaluate a mask, time it, repair it, train a classifier."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp import data, models
from cahp.export.masks import (
    check_fits,
    heads_to_prune,
    mask_array,
    mask_csv,
    mask_tensor,
    mask_to_json,
    read_mask,
)
from cahp.files import json_text, write_whole
from cahp.run.bench import check_classifier, label_reading, labelling, load_data, match_labels, open_bench
from cahp.run.measurements import FineTuned, Refitted, Workbench
from cahp.run.prune import cost_document, outcomes, split_document
from cahp.run.seal import TestSeal
from cahp.run.settings import Recovery, Settings
from cahp.store import Store
from cahp.values import CahpError, HeadMask, Input, ModelCard, OptionError, Progress, SelfTestError, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


def _mask(path: Path, card: ModelCard) -> HeadMask:
    return _read(path, card)[0]


def _read(path: Path, card: ModelCard) -> tuple[HeadMask, dict[str, Any]]:
    mask, said = read_mask(path, layers=card.layers, heads=card.heads)
    check_fits(mask, card.layers, card.heads, card.id)
    if said.get("model", card.id) != card.id:
        logging.getLogger(__name__).warning("the mask was made for %s and is used on %s", said["model"], card.id)
    return mask, said


def evaluate(
    settings: Settings,
    *,
    mask: Path | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Answers on ``eval_split`` of the full model and under a mask: metrics and differences as in ``run.json``."""
    card = models.identify(settings.model)
    check_classifier(settings, card)
    keep = None if mask is None else _mask(mask, card)
    raw = load_data(settings, card)
    dataset = match_labels(raw, settings, card)
    texts, notices = data.sample(
        dataset.split(settings.eval_split), settings.eval_limit, how=settings.sample, seed=settings.seed
    )
    store = store or Store()
    seal = TestSeal(card, dataset, store)
    bench = Workbench(card, None, store=store, device=settings.device, progress=progress)
    found = outcomes(bench, texts, keep, seed=settings.seed)
    return {
        "model": card.id,
        "data": {"id": dataset.id, "split": settings.eval_split, **split_document(texts)},
        "kept": _kept(keep),
        **found,
        "test_opened": seal.open() if settings.eval_split == "test" else seal.opened,
        "notices": [*dataset.notices, *notices, *labelling(bench.evaluate(texts), label_reading(raw, dataset))],
    }


def _kept(mask: HeadMask | None) -> dict[str, int] | None:
    return None if mask is None else {"heads": mask.count, "of": mask.keep.size}


def latency(
    model: str,
    mask: Path,
    *,
    batch: int = 8,
    length: int = 64,
    repeats: int = 30,
    device: str = "auto",
    store: Store | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Cost of the full model and of the model cut to a mask, as in ``run.json``."""
    card = models.identify(model)
    keep = _mask(mask, card)
    bench = Workbench(card, None, store=store or Store(), device=device, progress=progress)
    costs = bench.costs(keep, batch=batch, length=length, repeats=repeats)
    return {"model": card.id, "kept": _kept(keep), **cost_document(costs)}


def recover(
    settings: Settings,
    *,
    mask: Path,
    out: Path,
    how: str = "refit",
    epochs: int = 3,
    learning_rate: float = 2e-5,
    batch: int = 32,
    store: Store | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Repair a model under a mask, write it to ``out`` as a checkpoint of the usual shapes, and measure it.

    The pruned heads' output weights are zero there, so any tool that loads the original loads this. Fine-tuning, which
    ``watch`` sees, is measured beside the refit (``metrics.refitted``, ``delta.refitted``) where there can be one.
    """
    from cahp.models.folders import save_network
    from cahp.models.surgery import restore_shapes
    from cahp.models.training import Schedule

    if how not in ("refit", "finetune"):
        raise OptionError(f"--recover {how} is unknown; choose refit or finetune")
    card = models.identify(settings.model)
    _check_replaceable(out, card)
    keep = _mask(mask, card)
    bench = open_bench(settings, store=store, card=card, progress=progress, watch=watch)
    workbench = bench.workbench
    refitted = None if how == "finetune" and card.no_refit else workbench.refit(keep)
    document = outcomes(workbench, bench.evaluation, keep, recovered=refitted, seed=settings.seed)
    if refitted is not None:
        document["refit"] = refitted.document
    recovered: Refitted | FineTuned | None = refitted
    if how == "finetune":
        tuned = workbench.tuned(
            keep, schedule=replace(Schedule(), epochs=epochs, learning_rate=learning_rate, batch=batch)
        )
        beside = outcomes(workbench, bench.evaluation, keep, recovered=tuned, seed=settings.seed)
        for table in ("metrics", "delta"):
            beside[table]["refitted"] = document[table]["recovered"]
        document |= {**beside, "epochs": list(tuned.epochs)}
        recovered = tuned
    pruned = workbench.pruned(keep, recovered)
    with _saving_to(out):
        save_network(restore_shapes(workbench.model, pruned, keep), pruned.tokenizer, out.resolve())
    return {
        "model": bench.card.id,
        "data": {"id": bench.dataset.id, "split": settings.eval_split, **split_document(bench.evaluation)},
        "kept": _kept(keep),
        **document,
        "notices": list(bench.notices),
    }


#: What a mask can be written as, and the file's name.
MASK_FILES = {
    "mask": "head_mask.json",
    "npy": "head_mask.npy",
    "pt": "head_mask.pt",
    "csv": "head_mask.csv",
    "heads-to-prune": "heads_to_prune.json",
}


def export(
    settings: Settings,
    *,
    mask: Path,
    form: str,
    out: Path,
    how: Recovery = "none",
    time: bool = True,
    command: str = "",
    store: Store | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the model cut to a mask as a folder that others load, or the mask itself as another kind of file.

    A model is recovered first (``how``) and measured where there are data; see ``cahp.export.checkpoints.write``.

    Raises:
        CahpError: If model, mask, data and form do not go together, or what was written answers otherwise.
    """
    from cahp.export import checkpoints

    card = models.identify(settings.model)
    keep, said = _read(mask, card)
    if form in MASK_FILES:
        with _saving_to(out):
            write_whole(out, {MASK_FILES[form]: _as_file(form, keep, card)})
        return {"model": card.id, "kept": _kept(keep), "form": form, "file": MASK_FILES[form]}
    form = checkpoints.check_form(form, besides=MASK_FILES)
    _check_replaceable(out, card)
    check_classifier(settings, card)
    builtin = models.BUILTINS.get(card.id)
    if settings.data is not None or (builtin and builtin.data):
        bench = open_bench(settings, store=store, card=card, progress=progress)
        workbench = bench.workbench
        outcome, pruned = checkpoints.recovered(bench, keep, recover=how)
        inputs: Sequence[Input] = bench.evaluation.inputs
        data = {"id": bench.dataset.id, "split": settings.eval_split, **split_document(bench.evaluation)}
        notices = list(bench.notices)
    elif how != "none":
        raise OptionError(f"--recover {how} needs texts to repair the model on; name some with --data")
    else:
        workbench = Workbench(card, None, store=store or Store(), device=settings.device, progress=progress)
        outcome, pruned = {}, workbench.pruned(keep)
        inputs, data, notices = checkpoints.SENTENCES, None, []
    with _saving_to(out):
        written = checkpoints.write(
            form,
            out.resolve(),
            model=workbench.model,
            pruned=pruned,
            mask=keep,
            inputs=inputs,
            outcome=outcome or None,
            method=str(said.get("method", "by hand")),
            data=data,
            recovery=how,
            command=command,
            latency=time,
            progress=progress,
        )
    return {
        "model": card.id,
        "data": data,
        "kept": _kept(keep),
        **(outcome or {"metrics": None, "delta": None}),
        "parameters": {"full": workbench.model.parameters, "pruned": pruned.parameters},
        **written.as_json(),
        "notices": notices,
    }


def _as_file(form: str, mask: HeadMask, card: ModelCard) -> bytes:
    if form == "mask":
        said = mask_to_json(mask, model=card.id, method="by hand", budget={"attained": mask.count}, metrics={})
        return json_text(said).encode()
    if form == "heads-to-prune":
        return json_text({str(layer): heads for layer, heads in heads_to_prune(mask).items()}).encode()
    makers = {"npy": mask_array, "pt": mask_tensor, "csv": mask_csv}
    return makers[form](mask)


def _check_replaceable(out: Path, card: ModelCard) -> None:
    """Check that nothing but a model would be lost when a new one takes the place of ``out``.

    Raises:
        CahpError: If it holds other files, or the model that is asked about.
    """
    if not out.is_dir():
        return
    if out.resolve() == Path(card.folder).resolve():
        raise OptionError(f"{out} holds {card.id} itself, which would be overwritten; name another folder with --out")
    others = [item.name for item in sorted(out.iterdir()) if item.is_dir() or not _OF_A_MODEL.fullmatch(item.name)]
    if others:
        raise OptionError(
            f"{out} holds {others[0]}, which is no part of a model and would be lost; name a new or empty folder with "
            "--out"
        )


#: What a folder that ``fit`` or ``recover`` wrote, or ``save_pretrained``, may hold.
_OF_A_MODEL = re.compile(
    r"(adapter_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?|(adapter_|generation_|tokenizer_)?config\.json"
    r"|metrics\.json|head_mask\.json|load_pruned\.py|model\.onnx|(tokenizer|special_tokens_map|added_tokens|vocab)\.json|(vocab|merges)\.txt|\w+\.model|README\.md"
)


@contextmanager
def _saving_to(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CahpError(
            f"the model cannot be written to {out} ({error.strerror or error}); name another folder with --out"
        ) from error


def fit(
    settings: Settings,
    *,
    out: Path,
    save: str = "model",
    schedule: Mapping[str, Any],
    rank: int = 16,
    limit: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a classifier with low-rank adapters on the ``train`` split; the best epoch on ``validation`` is kept.

    The result is measured as it was written: read back from ``out``.
    """
    from cahp.models import folders, lora
    from cahp.stages.evaluation import evaluate as answers
    from cahp.stages.evaluation import metrics

    if save not in ("model", "adapter"):
        raise OptionError(f"--save {save} is unknown; choose model or adapter")
    card = models.identify(settings.model)
    if settings.data is None:
        raise OptionError("name the texts to learn from with --data")
    _check_replaceable(out, card)
    dataset = data.load(
        settings.data,
        text_column=settings.text_column,
        pair_column=settings.pair_column,
        label_column=settings.label_column,
    )
    texts, notices = data.sample(dataset.split("train"), limit, seed=settings.seed)
    validation = dataset.split("validation")
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
    if not all(bool(weight.isfinite().all()) for weight in fitted.peft.parameters()):
        raise CahpError("training went astray: the weights are no longer finite numbers; lower --learning-rate")
    with _saving_to(out):
        if save == "adapter":
            folders.save_adapter(fitted, out.resolve(), base=folders.base_name(card))
        else:
            folders.save_merged(fitted, out.resolve())
    try:
        if save == "adapter":
            made = folders.load_adapter(card, out, labels=texts.classes, device=settings.device)
        else:
            made = models.load(str(out.resolve()), device=settings.device)
    except SelfTestError as error:
        raise SelfTestError(
            f"the classifier in {out} is of no use ({error}); train again with a lower --learning-rate"
        ) from None
    return {
        "model": card.id,
        "data": {"id": dataset.id, "train": split_document(texts)},
        "epochs": [asdict(epoch) for epoch in fitted.history],
        "metrics": {
            split: metrics(answers(made, dataset.split(split), progress=progress)).as_json()
            for split in ("validation", "test")
            if split in dataset.splits
        },
        "notices": [*dataset.notices, *notices],
    }
