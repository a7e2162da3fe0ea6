"""The interactive board of a report: its data and its script, contained in the page."""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cahp.board import BoardSubject, Host, Shown, contents, script
from cahp.board.budget_sweep import BudgetTable, own_outcomes, own_speed, table_of
from cahp.board.colourings import Coloured, colour_by_measures
from cahp.board.head_clusters import HeadClusters
from cahp.exports.run_folder import RunFiles
from cahp.recoveries import NONE, name_of_state
from cahp.run.document import BY_HAND, RunDocument
from cahp.run.measures import Measures
from cahp.run.settings import Settings
from cahp.values import Ints

#: With more heads, a report does not contain the clusters of every budget: it would be too large for a mail.
_ALL_CLUSTERS = 256


# A printed page has a white background in either theme.
STYLE = """
.cahp-board{--board-text:var(--ink);--board-ground:var(--ground);--board-accent:var(--accent);
--board-font:"CAHP Sans",system-ui,sans-serif;margin:1.5rem 0}
.cahp-board svg{width:auto;margin:.4rem 0 0}
@media screen and (min-width:64rem){.live-board{width:60rem;margin-left:calc((100% - 60rem)/2)}}
"""


@dataclass(frozen=True, eq=False)
class Live:
    """The content of a report's board: the measured budgets of a run, beginning with its own mask.

    ``labels (N,)`` are the clusters of the run's mask; ``colourings`` are those of the board beside clusters.
    """

    clusters: HeadClusters
    table: BudgetTable
    labels: Ints
    colourings: Sequence[Coloured] = ()


def live_of(files: RunFiles, measures: Measures = ()) -> Live | None:
    """Return the content of the board (None: the folder does not contain the masks of other budgets)."""
    run = files.document
    clusters = files.clusters
    # Only other methods themselves can choose their heads for other budgets.
    if clusters is None or files.labels is None or run.settings.method not in (Settings.method, BY_HAND):
        return None
    return Live(clusters, table_of(run, clusters, files.table), files.labels, colour_by_measures(measures, run))


@cache
def report_script() -> str:
    """Return the script of a report."""
    return script((Path(__file__).parent / "report.js").read_text(encoding="utf-8"))


def policy() -> str:
    """Return a content-security policy that allows this script only and loads nothing.

    Images of the curves are made in the page (``blob:``) before they are saved.
    """
    digest = base64.b64encode(hashlib.sha256(report_script().encode()).digest()).decode("ascii")
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; font-src data:; img-src blob:"


def board(run: RunDocument, live: Live) -> Iterator[str]:
    """Yield the board, a note, and its data; it needs scripts."""
    mask = run.mask
    yield '<div class="live-board"></div>'
    measured, budgets = live.table.measured()
    note = f"Drag the number of heads, or click a head. {measured} of {budgets} budgets were measured"
    if measured < budgets:
        note += "; values between them are estimated. <code>cahp prune --sweep</code> measures all"
    yield f"<p class='note moves'>{note}.</p>"
    origin = "auto"
    if run.settings.method == BY_HAND:
        origin = "hand"
    elif run.budget.requested is not None:
        origin = "budget"
    swept = live.table.recover
    recovered = run.outcomes.get("recovered")
    beside = None
    if swept == NONE.name and recovered is not None:
        beside = name_of_state(run.settings.recover), recovered
    rescued = [layer * mask.heads + head for layer, head in run.rescued]
    data = contents(
        live.table,
        live.clusters,
        Shown(mask, origin, own_outcomes(run, swept), own_speed(run), rescued=rescued, beside=beside),
        labels=live.labels,
        subject=BoardSubject.of(run),
        host=Host(alone=mask.keep.size <= _ALL_CLUSTERS, colourings=live.colourings),
    )
    # A script element ends at the first "</script", whatever it contains.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    yield f'<script type="application/json" class="board-data">{text}</script>'
