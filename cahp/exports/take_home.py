"""A pruned model as one file to download: recovered, and in one of the forms that others load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.exports import checkpoints, formats
from cahp.exports.form import ModelForm
from cahp.exports.run_folder import zipped
from cahp.files import scratch
from cahp.recoveries import get_recovery
from cahp.run.bench import Bench
from cahp.run.document import SplitRecord
from cahp.run.recovered import cut_model
from cahp.values import HeadMask, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


@dataclass(frozen=True)
class Checkpoint:
    """A pruned model as a ZIP file, the metrics and differences of a run, and what was found when it was read back."""

    content: bytes
    outcome: Mapping[str, Any]
    written: checkpoints.Written


def checkpoint(
    bench: Bench,
    mask: HeadMask,
    *,
    form: ModelForm,
    method: str | None = None,
    recover: str = "refit",
    epochs: int = 3,
    allowed: float | None = None,
    watch: Watch | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Checkpoint:
    """Cut the model to ``mask``, recover it, and write it in a form that others load.

    ``method`` is who chose the heads, if not the bench's. See ``cahp.exports.checkpoints``: ``recovered`` for the
    recovery, ``write`` for the rest.

    Raises:
        MaskError: If a layer keeps no head.
        CahpError: If what is read back answers otherwise than what was written.
    """
    formats.check_card(form, bench.card)
    schedule = {"epochs": epochs} if get_recovery(recover).needs_labels else None
    outcome, recovered = checkpoints.recovered(
        bench, mask, recover=recover, schedule=schedule, allowed=allowed, watch=watch
    )
    with scratch() as place:
        folder = place / f"{Path(bench.card.id).name}-{mask.count}-heads-{form.key}"
        written = checkpoints.write(
            form,
            folder,
            model=bench.model,
            pruned=cut_model(bench.model, mask, recovered),
            mask=mask,
            inputs=bench.evaluation.inputs,
            full=bench.measurements.evaluate(bench.evaluation),
            outcome=outcome,
            method=method or bench.settings.method,
            data=SplitRecord.of(bench.settings.eval_split, bench.evaluation).with_id(bench.dataset.id),
            recovery=recover,
            command=command,
            seed=bench.settings.seed,
            progress=progress,
        )
        return Checkpoint(zipped(folder), written.beside(outcome), written)
