"""``cahp.report``: a run as one HTML file, or the bundled runs as a page for a static host."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from cahp.api import bundled
from cahp.api.options import Name
from cahp.exports.live import Live, live_of
from cahp.exports.report import Origin, recipe, run_report, write_report
from cahp.exports.run_folder import read_run
from cahp.exports.site import SiteRun, site_page
from cahp.features import measures
from cahp.figures.comparison_blocks import show_means
from cahp.recoveries import RECOVERIES
from cahp.values import CahpError

#: The bundled comparison on the page for a static host.
_COMPARED = "minilm-sst5"


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
    text = run_report(files, day=date.today(), static=static, measures=measures())
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


def site(folder: Name, *, force: bool = False) -> dict[str, Any]:
    """Write a page for a static host: the boards of the bundled runs, what their models can still do, a comparison.

    Args:
        folder: Where ``index.html`` is written.
        force: Replace an ``index.html`` of another kind.

    Returns:
        The document that ``cahp report --site --json`` prints: the file, its size in bytes, and the models.

    Raises:
        CahpError: If no run ships with this copy, or the file cannot be written; one line with the next step.
    """
    runs = [run for run in map(_read_bundled, bundled.RUNS) if run is not None]
    if not runs:
        raise CahpError("no finished run ships with this copy of the package; install it from its wheel")
    comparisons, _ = bundled.read_comparisons(bundled.comparisons_folder())
    compared = {}
    for one in comparisons:
        if one.name == _COMPARED:
            results = one.comparison.results
            # The last recovery in closed form, which takes no training.
            recovery = next(name for name in reversed(results.recoveries) if RECOVERIES[name].swept)
            compared[f"Methods compared on {results.document.model.id}"] = [show_means(results, recovery)]
    text = site_page(runs, compared, measures=measures())
    place = Path(folder)
    file = write_report(text, place / "index.html", force=force)
    return {"file": str(file), "bytes": len(text.encode()), "models": [run.run.model.id for run in runs]}


def _read_bundled(name: str) -> SiteRun | None:
    bundle = bundled.read_run(name)
    if bundle is None:
        return None
    run = bundle.document
    clusters = bundle.evidence()
    live = Live.of(run, clusters, bundle.swept_table(), clusters.groups(run.mask.count)[0], measures())
    origin = Origin(bundle.made["machine"], bundle.made["date"], recipe(run.settings), bundled=True)
    return SiteRun(run, live, origin)
