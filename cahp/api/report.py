"""``cahp.report``: a run as one HTML file."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from cahp.api.options import Name
from cahp.exports.live import live_of
from cahp.exports.report import run_report, write_report
from cahp.exports.run_folder import read_run
from cahp.features import sections


def report(
    run: Name,
    out: Name | None = None,
    *,
    static: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Write the folder of a run as one HTML file that opens offline; its board shows figures while it is dragged.

    Args:
        run: The folder of ``cahp prune --out``, or of ``PruneResult.save``.
        out: The HTML file (None: ``report.html`` in the folder of the run).
        static: Leave out the board, for mail that forbids scripts.
        force: Replace a file that is no report.

    Returns:
        The document that ``cahp report --json`` prints.

    Raises:
        CahpError: If the run cannot be read or the file cannot be written; one line with the next step.
    """
    place = Path(run)
    files = read_run(place)
    text = run_report(files, day=date.today(), static=static, sections=sections())
    if out is None:
        folder = place if place.is_dir() else place.parent
        out = folder / "report.html"
    file = write_report(text, Path(out), force=force)
    document = {
        "file": str(file),
        "bytes": len(text.encode()),
        "answers": False,
        "measured": None,
        "budgets": None,
    }
    if not static and (live := live_of(files)) is not None:
        measured, budgets = live.table.measured()
        document |= {"answers": True, "measured": measured, "budgets": budgets}
    return document
