"""Take a pruned model home: from a model and a mask's file to a folder that others load, or to another kind of file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cahp import models
from cahp.export import checkpoints
from cahp.export.masks import (
    heads_to_prune,
    kept_heads,
    mask_array,
    mask_csv,
    mask_tensor,
    mask_to_json,
    read_for,
)
from cahp.files import json_text, write_whole
from cahp.run.bench import check_classifier, open_bench
from cahp.run.document import SplitRecord
from cahp.run.measurements import Measurements
from cahp.run.resources import Resources
from cahp.run.settings import Recovery, Settings
from cahp.store import Store
from cahp.values import HeadMask, Input, ModelCard, OptionError, Progress, silent

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
    card = models.identify(settings.model)
    keep, said = read_for(card, mask)
    if form in MASK_FILES:
        with checkpoints.writing_to(out):
            write_whole(out, {MASK_FILES[form]: _as_file(form, keep, card)})
        return {"model": card.id, "kept": kept_heads(keep), "form": form, "file": MASK_FILES[form]}
    form = checkpoints.check_form(form, besides=MASK_FILES)
    checkpoints.check_replaceable(out, card)
    check_classifier(settings, card)
    builtin = models.BUILTINS.get(card.id)
    if settings.data is not None or (builtin and builtin.data):
        bench = open_bench(settings, store=store, card=card, progress=progress)
        measurements = bench.measurements
        outcome, pruned = checkpoints.recovered(bench, keep, recover=how)
        inputs: Sequence[Input] = bench.evaluation.inputs
        data = {"id": bench.dataset.id, **vars(SplitRecord.of(settings.eval_split, bench.evaluation))}
        notices = list(bench.notices)
    elif how != "none":
        raise OptionError(f"--recover {how} needs texts to recover the model on; name some with --data")
    else:
        resources = Resources(card, store=store or Store(), device=settings.device, progress=progress)
        measurements = Measurements(resources)
        outcome, pruned = {}, measurements.pruned(keep)
        inputs, data, notices = checkpoints.SENTENCES, None, []
    with checkpoints.writing_to(out):
        written = checkpoints.write(
            form,
            out.resolve(),
            model=measurements.model,
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
        "kept": kept_heads(keep),
        **(outcome or {"metrics": None, "delta": None}),
        "parameters": {"full": measurements.model.parameters, "pruned": pruned.parameters},
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
