"""What people take home from a view: its mask, its run, its recipe, and a recovered model, as files."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.export.checkpoints import Form, Written, recovered, write
from cahp.export.run_folder import RUN_FOLDER, zipped
from cahp.run.bench import Bench
from cahp.run.document import BY_HAND, SplitRecord
from cahp.run.settings import Recovery, Settings
from cahp.run.spelling import EVALUATE, PRUNE, call, words
from cahp.values import HeadMask, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch

#: Files that the recipes name.
MASK_FILE = "head_mask.json"


# A recipe -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How to make a view again: the arguments of a command, and lines of Python that print the accuracy."""

    command: tuple[str, ...]
    python: str

    @property
    def shell(self) -> str:
        """The command as one types it."""
        return shlex.join(self.command)


def recipe(settings: Settings) -> Recipe:
    """How to make a run of these settings again; a mask made by hand must lie in ``head_mask.json``."""
    if settings.method == BY_HAND:
        command = ["cahp", "evaluate", "--mask", MASK_FILE, *words(settings, EVALUATE)]
        python = (
            "from pathlib import Path\n\n"
            "from cahp import Settings\n"
            "from cahp.tasks.evaluate import evaluate\n\n"
            f"found = evaluate({call(settings, EVALUATE)}, mask=Path({MASK_FILE!r}))\n"
            'print(found["metrics"].pruned.accuracy)'
        )
        return Recipe(tuple(command), python)
    command = ["cahp", "prune", *words(settings, PRUNE), "--out", RUN_FOLDER]
    python = (
        "from cahp import Settings, prune\n\n"
        f"run = prune({call(settings, PRUNE)})\n"
        "print(run.mask.by_layer)\n"
        "print(run.document.metrics.pruned.accuracy)"
    )
    return Recipe(tuple(command), python)


# A model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Checkpoint:
    """A pruned model as a ZIP file, the metrics and differences of a run, and what was found when it was read back."""

    content: bytes
    outcome: Mapping[str, Any]
    written: Written


def checkpoint(
    bench: Bench,
    mask: HeadMask,
    *,
    form: Form = "drop-in",
    recover: Recovery = "refit",
    epochs: int = 3,
    watch: Watch | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Checkpoint:
    """Cut the model to ``mask``, recover it, and write it in a form that others load.

    See ``cahp.export.checkpoints.write``.

    Raises:
        MaskError: If a layer keeps no head.
        CahpError: If what is read back answers otherwise than what was written.
    """
    outcome, pruned = recovered(bench, mask, recover=recover, epochs=epochs, watch=watch)
    with tempfile.TemporaryDirectory(prefix="cahp-") as place:
        folder = Path(place) / f"{Path(bench.card.id).name}-{mask.count}-heads-{form}"
        written = write(
            form,
            folder,
            model=bench.model,
            pruned=pruned,
            mask=mask,
            inputs=bench.evaluation.inputs,
            outcome=outcome,
            method=bench.settings.method,
            data={"id": bench.dataset.id, **vars(SplitRecord.of(bench.settings.eval_split, bench.evaluation))},
            recovery=recover,
            command=command,
            progress=progress,
        )
        return Checkpoint(zipped(folder), outcome, written)
