"""One page for any static host: the boards of several finished runs and a comparison; it loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cahp.exports import live as live_board
from cahp.exports.drawings import table
from cahp.exports.live import Live
from cahp.exports.report import Origin, html_page, html_section, verdict
from cahp.outcomes import OUTCOMES
from cahp.recoveries import RECOVERIES
from cahp.run.document import RunDocument
from cahp.run.measures import Measures, show_measured
from cahp.show import html
from cahp.words import capital, counted, safe

if TYPE_CHECKING:
    from cahp.comparison import SplitResults

_COMMANDS = """pip install "cahp-explorer[ui,demo]"
cahp explore                                        # this board, live, with your own text
cahp prune --model my-model --data reviews.csv      # your own model and data"""


@dataclass(frozen=True, eq=False)
class SiteRun:
    """A finished run on the page."""

    run: RunDocument
    live: Live
    origin: Origin


def site_page(runs: Sequence[SiteRun], compared: Sequence[SplitResults], *, measures: Measures = ()) -> str:
    """Return the page as an HTML document: a board for each run, then a ranking of each comparison.

    ``measures`` show what features measured of the runs.
    """
    header = (
        "<p class=kicker>CAHP Explorer</p><h1>Which attention heads does a model need?</h1>"
        "<p class=lead>Heads that attend alike form a cluster, and one head of each cluster is kept. Drag the number "
        "of heads: the figures were measured once, and ship with this page.</p>"
    )
    parts: list[str] = []
    for row in runs:
        model = row.run.model.id
        parts.append(html_section(f"{model} on {row.run.data.id}", _draw_run(row)))
        # Tables scroll in sections of their own, which would cut a board.
        for one, blocks in show_measured(measures, row.run):
            parts.append(html_section(f"{model}: {one.title}", html.draw(blocks)))
    parts += [html_section(f"Methods compared on {results.document.model.id}", _rank(results)) for results in compared]
    parts.append(html_section("Your own model", [f"<pre>{safe(_COMMANDS)}</pre>"]))
    return html_page("CAHP Explorer", header, "".join(parts), boards=True)


def _draw_run(row: SiteRun) -> Iterator[str]:
    yield f"<p class=lead>{safe(verdict(row.run))}</p>"
    yield from live_board.board(row.run, row.run.mask, row.live)
    yield f"<p class=note>Measured on {safe(row.origin.machine)}, {safe(row.origin.date)}.</p>"
    yield f"<pre>{safe(row.origin.recipe)}</pre>"


def _rank(results: SplitResults) -> Iterable[str]:
    """Draw the methods at the middle budget, the best after the last recovery in closed form first."""
    recovery = next(name for name in reversed(results.recoveries) if RECOVERIES[name].swept)
    measured = results.budgets_after(recovery)
    budget = measured[len(measured) // 2]
    outcome = OUTCOMES[results.outcome]
    rows = []
    for mean in results.rank(recovery, budget):
        found = results.estimate(mean)
        rows.append((mean.method, [found.text, found.interval]))
    seeds = counted(len(results.document.seeds), "seed")
    caption = (
        f"{capital(outcome.label)} ({outcome.unit}) with {budget} of {results.total} {results.document.model.unit}s "
        f"{RECOVERIES[recovery].beside}, n = {results.n}, {seeds}; intervals are not corrected"
    )
    return [table(caption, ["mean", "95 % interval"], rows)]
