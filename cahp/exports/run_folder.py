"""A run as a folder: ``run.json``, ``head_mask.json``, ``arrays.npz``, and ``table.json`` where budgets were swept."""

from __future__ import annotations

import io
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from cahp.exports.masks import MaskOrigin, mask_json
from cahp.files import Content, json_text, scratch
from cahp.output import Mark, Output
from cahp.run.document import outcome_records
from cahp.run.prune import Run
from cahp.studies.budget_sweep import BudgetTable
from cahp.studies.table_file import TABLE_FILE, table_json

#: What the folder is called inside of an archive.
RUN_FOLDER = "cahp-run"
#: That files come from a run.
MARK = Mark("run.json", "cahp.run")


def files(*, table: bool = False) -> tuple[str, ...]:
    """The names of what ``write_run`` writes, with or without a table."""
    return ("run.json", "head_mask.json", "arrays.npz", *([TABLE_FILE] if table else []))


def write_run(folder: str | PathLike[str] | Output, run: Run, *, table: BudgetTable | None = None) -> None:
    """Write ``run.json``, ``head_mask.json`` and ``arrays.npz`` into ``folder``: all of them or none.

    With a ``table`` of its budgets ``table.json`` too. Those of another run are replaced, other files are left alone.

    Raises:
        OptionError: If files of these names are there that no run wrote.
        UnwrittenError: If the folder cannot be written to.
        ValueError: If the run's document names other heads as kept than its mask, or an array holds Python objects.
    """
    document = run.document
    if not document.is_of(run.mask):
        raise ValueError(f"the run says {document.by_layer} were kept, the mask {run.mask.by_layer}")
    named: dict[str, Any] = dict(run.arrays)
    for name, array in named.items():
        if array.dtype.hasobject:
            raise ValueError(f"the array {name!r} holds Python objects")
    origin = MaskOrigin(
        document.model.id, document.settings.method, document.budget, outcome_records(document.outcomes)["metrics"]
    )
    contents: dict[str, Content] = {
        "run.json": json_text(document.to_json()).encode(),
        "head_mask.json": mask_json(run.mask, origin),
        "arrays.npz": lambda file: np.savez(file, **named),
    }
    if table is not None:
        contents[TABLE_FILE] = json_text(table_json(table, document)).encode()
    output = Output.of(folder)
    output.check_files(contents, MARK)
    output.write(contents)


def run_archive(run: Run, *, table: BudgetTable | None = None) -> bytes:
    """The run's folder as a ZIP file, with what is measured in the ``table`` of its budgets."""
    with scratch() as place:
        folder = place / RUN_FOLDER
        write_run(folder, run, table=table)
        return zipped(folder)


def zipped(folder: Path) -> bytes:
    """A folder's files under the folder's name; not compressed, because weights and arrays hardly shrink."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, Path(folder.name) / path.relative_to(folder))
    return content.getvalue()
