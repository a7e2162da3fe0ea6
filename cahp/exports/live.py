"""The interactive board of a report: its data and its script, contained in the page."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cahp.board import Shown, contents, script, style
from cahp.board.colours import letters
from cahp.exports.drawings import table
from cahp.files import plain_json
from cahp.recoveries import NONE, name_of_result
from cahp.run.document import BY_HAND, RunDocument
from cahp.studies.budget_sweep import BudgetTable, Speed
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.table_file import own_outcomes
from cahp.values import HeadMask, Ints
from cahp.words import safe

#: Largest number of heads for which a report contains the clusters of every budget; more would not fit into a mail.
_ALL_CLUSTERS = 256


# A printed page has a white background in either theme.
STYLE = """
.cahp-board{--board-text:var(--ink);--board-ground:var(--ground);--board-accent:var(--accent);margin:1.5rem 0}
.cahp-board svg{width:auto;margin:.4rem 0 0}
@media screen and (min-width:64rem){#board{width:60rem;margin-left:calc((100% - 60rem)/2)}}
"""


@dataclass(frozen=True, eq=False)
class Live:
    """What the board of a report shows: the measured budgets of a run, beginning with its own mask.

    ``labels (N,)`` are the clusters of the run's mask.
    """

    clusters: HeadClusters
    table: BudgetTable
    labels: Ints


@cache
def script_of() -> str:
    """Return the script of a report."""
    return script((Path(__file__).parent / "report.js").read_text(encoding="utf-8"))


def policy() -> str:
    """Return a content-security policy that allows this script only and loads nothing.

    Images of the curves are made in the page (``blob:``) before they are saved.
    """
    digest = base64.b64encode(hashlib.sha256(script_of().encode()).digest()).decode("ascii")
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src blob:"


def head() -> str:
    """Return the styles of the board for the head of the page."""
    return f"<style>{style()}{STYLE}</style>"


def board(run: RunDocument, mask: HeadMask, live: Live) -> Iterator[str]:
    """Yield the board, its data and a note; it needs scripts."""
    all_clusters = mask.keep.size <= _ALL_CLUSTERS
    yield '<div id="board"></div>'
    measured, budgets = live.table.measured()
    said = f"Drag the number of heads. {'All' if measured == budgets else measured} of {budgets} budgets were measured"
    if measured < budgets:
        said += "; values between them are estimated"
    said += "." if measured == budgets else ". <code>cahp prune --sweep</code> measures all."
    said += (
        " Click a head to see which head covers for it."
        if all_clusters
        else (f" Colours are those of the clusters at {mask.count} heads.")
    )
    yield f"<p class='note moves'>{said}</p>"
    data = contents(
        live.table,
        live.clusters,
        _shown(run, mask, live.table),
        labels=live.labels,
        alone=all_clusters,
        chance=run.data.eval.most_frequent,
    )
    # A script element ends at the first "</script", whatever it holds.
    text = json.dumps(plain_json(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    yield f'<script type="application/json" id="board-data">{text}</script>'


def script_element() -> str:
    """Return the script element for the end of the page."""
    return f'<script type="module">{script_of()}</script>'


def _shown(run: RunDocument, mask: HeadMask, of: BudgetTable) -> Shown:
    requested = run.budget.requested is not None
    origin = "hand" if run.settings.method == BY_HAND else "budget" if requested else "auto"
    recovered, note = run.outcomes.get("recovered"), ""
    if of.recover == NONE.name and recovered is not None:
        note = f"{name_of_result(run.settings.recover)}: {recovered['accuracy'].text}"
    ratio = run.latency_ratio
    speed = None if ratio is None else Speed.of(ratio, run.cost.full, run.cost.pruned)
    rescued = [layer * mask.heads + head for layer, head in run.rescued]
    return Shown(mask, origin, own_outcomes(run, of.recover), speed, note, rescued)


def covers(mask: HeadMask, clusters: HeadClusters, labels: Ints) -> Iterator[str]:
    """List, for each kept head, the pruned heads to which it is nearest."""
    nearest = clusters.covers(mask, labels)
    pruned = [head for head in range(mask.keep.size) if not mask.keep.flat[head]]
    rows = []
    for survivor in mask.flat:
        inside = [
            _place(head, mask) for head in pruned if nearest[head] == survivor and labels[head] == labels[survivor]
        ]
        outside = [
            _place(head, mask) for head in pruned if nearest[head] == survivor and labels[head] != labels[survivor]
        ]
        if inside or outside:
            name = f"{_place(survivor, mask)} ({letters(int(labels[survivor]))})"
            rows.append((name, [", ".join(inside) or "–", ", ".join(outside) or "–"]))
    if not rows:
        yield "<p>No head was pruned.</p>"
        return
    yield (
        "<p>Each pruned head is covered for by the nearest kept head of its cluster or, if its cluster keeps none, by "
        "the nearest kept head of all.</p>"
    )
    yield table(
        "Layer.head of each kept head (cluster) and of the heads it covers for",
        ["same cluster", "other clusters"],
        rows,
    )


def _place(head: int, mask: HeadMask) -> str:
    return f"{head // mask.heads}.{head % mask.heads}"


def no_script() -> str:
    """Return the note for browsers without scripts."""
    return safe("The interactive board needs a script, which is disabled here; a static drawing follows.")
