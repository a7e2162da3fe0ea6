"""What people take home from a view: its mask, its run, its recipe, and a recovered model, as files."""

from __future__ import annotations

import io
import shlex
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cahp.export.checkpoints import Form, Written, recovered, write
from cahp.export.masks import write_run
from cahp.export.report import BY_HAND
from cahp.run.bench import Bench
from cahp.run.measurements import Costs
from cahp.run.prune import SCHEMA, cost_document, outcomes, split_document, versions
from cahp.run.seal import TestSeal
from cahp.run.settings import Recovery, Settings
from cahp.run.spelling import EVALUATE, PRUNE, call, words
from cahp.values import Clustering, HeadMask, Progress, Selection, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch

#: Files that the recipes name.
MASK_FILE = "head_mask.json"
RUN_FOLDER = "cahp-run"


# A run ----------------------------------------------------------------------------------------------------------


def measured(
    bench: Bench,
    mask: HeadMask,
    *,
    costs: Callable[[HeadMask], Costs],
    recover: bool = False,
    selection: Selection | None = None,
    clustering: Clustering | None = None,
) -> dict[str, Any]:
    """The document (``cahp.run/1``) of the mask on a board, measured like that of a run.

    ``selection`` and ``clustering`` say where the mask comes from; without them it was made by hand. ``costs`` takes
    the time of the cut model, ``recover`` refits it too; neither is possible where a layer is empty.
    """
    card, workbench = bench.card, bench.workbench
    start = workbench.clock()
    cuttable = not mask.empty_layers
    recovered = workbench.refit(mask) if recover and cuttable else None
    judged = outcomes(workbench, bench.evaluation, mask, recovered=recovered, seed=bench.settings.seed)
    settings = replace(
        bench.settings,
        budget=str(mask.count),
        recover="none" if recovered is None else "refit",
        method=BY_HAND if selection is None else bench.settings.method,
    )
    return {
        "schema": SCHEMA,
        "model": {
            "id": card.id,
            "revision": card.revision,
            "family": card.family,
            "layers": card.layers,
            "heads": card.heads,
            "sha256": card.sha256,
        },
        "data": {
            "id": bench.dataset.id,
            "select": {"split": settings.select_split, **split_document(bench.calibration)},
            "eval": {"split": settings.eval_split, **split_document(bench.evaluation)},
            "classes": list(bench.dataset.classes),
        },
        "settings": {**asdict(settings), "label_map": dict(settings.label_map)},
        "knee": None if clustering is None else clustering.knee,
        "knee_rule": None if clustering is None else clustering.knee_rule,
        "budget": {"requested": None if selection is None else mask.count, "attained": mask.count},
        "kept": {str(layer): heads for layer, heads in enumerate(mask.by_layer)},
        "rescued": [] if selection is None else [list(divmod(head, card.heads)) for head in selection.rescued],
        "clusters": None if selection is None else selection.k,
        **judged,
        "refit": None if recovered is None else recovered.document,
        **cost_document(costs(mask) if cuttable else None),
        "report": None,
        # The board's stages were timed by the run that filled it, not here.
        "timings": {**dict.fromkeys(_UNTIMED), "total_s": workbench.clock() - start},
        "cached": [],
        "verified": _verified(bench, mask),
        "test_opened": TestSeal(card, bench.dataset, workbench.store).opened,
        "notices": list(bench.notices),
        "versions": versions(),
        "command": recipe(settings).shell,
    }


_UNTIMED = (
    "signatures_s",
    "features_s",
    "projection_s",
    "clustering_s",
    "salience_s",
    "evaluation_s",
    "recovery_s",
)


def _verified(bench: Bench, mask: HeadMask) -> dict[str, Any]:
    if mask.empty_layers:
        return {"mask_bites": True, "mask_equals_surgery": None, "difference": None}
    from cahp.models.selftest import difference

    model = bench.workbench.model
    worst = difference(model, mask, model.batches(model.tokenize(bench.evaluation.inputs[:8])))
    return {"mask_bites": True, "mask_equals_surgery": True, "difference": worst}


def run_archive(run: Mapping[str, Any], mask: HeadMask, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The run's folder as a ZIP file: ``run.json``, ``head_mask.json`` and ``arrays.npz``."""
    with tempfile.TemporaryDirectory(prefix="cahp-") as place:
        folder = Path(place) / RUN_FOLDER
        write_run(
            folder,
            run=run,
            mask=mask,
            arrays=arrays,
            model_id=run["model"]["id"],
            method=run["settings"]["method"],
            metrics=run["metrics"],
        )
        return _zipped(folder)


def _zipped(folder: Path) -> bytes:
    """A folder's files under the folder's name; not compressed, because weights and arrays hardly shrink."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, Path(folder.name) / path.relative_to(folder))
    return content.getvalue()


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
            'print(found["metrics"]["pruned"]["accuracy"])'
        )
        return Recipe(tuple(command), python)
    command = ["cahp", "prune", *words(settings, PRUNE), "--out", RUN_FOLDER]
    python = (
        "from cahp import Settings, prune\n\n"
        f"run = prune({call(settings, PRUNE)})\n"
        "print(run.mask.by_layer)\n"
        'print(run.document["metrics"]["pruned"]["accuracy"])'
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
    """Cut the model to ``mask``, repair it, and write it in a form that others load.

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
            model=bench.workbench.model,
            pruned=pruned,
            mask=mask,
            inputs=bench.evaluation.inputs,
            outcome=outcome,
            method=bench.settings.method,
            data={"id": bench.dataset.id, "split": bench.settings.eval_split, **split_document(bench.evaluation)},
            recovery=recover,
            command=command,
            progress=progress,
        )
        return Checkpoint(_zipped(folder), outcome, written)
