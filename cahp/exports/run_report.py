"""The report of a run out of its folder."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np

from cahp.exports.drawings import Clusters, Curve
from cahp.exports.live import Live
from cahp.exports.report import Origin, page
from cahp.exports.run_files import RunFiles
from cahp.files import is_there
from cahp.output import Mark, Output
from cahp.run.document import BY_HAND
from cahp.run.settings import Settings
from cahp.studies.table_file import table_of
from cahp.values import OptionError


def run_report(files: RunFiles, *, day: date, static: bool = False) -> str:
    """The report as a whole HTML document; see ``cahp.exports.report.page``. Nothing is measured for it.

    Its board answers where the folder tells what other budgets keep.
    """
    run, arrays = files.document, files.arrays
    curve = None
    if run.knee is not None and {"ks", "mss"} <= arrays.keys():
        curve = Curve(arrays["ks"], arrays["mss"], run.knee)
    return page(
        run,
        run.mask,
        origin=Origin.of(run, day),
        clusters=Clusters.of(arrays["labels"].astype(np.int64)) if "labels" in arrays else None,
        curve=curve,
        live=live_of(files),
        static=static,
    )


def live_of(files: RunFiles) -> Live | None:
    """What the board of the report is drawn from; None where the folder does not tell what other budgets keep."""
    run, clusters = files.document, files.clusters
    # What other methods keep at other budgets, only they can tell.
    if clusters is None or "labels" not in files.arrays or run.settings.method not in (Settings().method, BY_HAND):
        return None
    return Live(clusters, table_of(run, clusters, files.table), files.arrays["labels"].astype(np.int64))


def write_report(text: str, file: Path, *, force: bool = False) -> Path:
    """Write a report as ``file``, whole or not at all; another report is replaced, and with ``force`` any file.

    Raises:
        OptionError: If a file of that name is there that is no report, or it is a folder.
        UnwrittenError: If it cannot be written.
    """
    if is_there(file, Path.is_dir):
        raise OptionError(f"{file} is a folder; name another file with --out")
    output = Output(file.parent, force=force)
    output.check_files([file.name], Mark(file.name, "cahp.report"))
    output.write({file.name: text.encode()})
    return file if output.folder == file.parent else output.folder / file.name
