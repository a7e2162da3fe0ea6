"""One page for any static host: the boards of several finished runs and a comparison; it loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cahp.exports import live as live_board
from cahp.exports.live import Live
from cahp.exports.report import Origin, html_page, html_section, verdict
from cahp.run.document import RunDocument
from cahp.run.measures import Measures, show_measured
from cahp.show import html
from cahp.show.blocks import Block
from cahp.words import safe

_COMMANDS = """pip install "cahp-explorer[ui,demo]"
cahp explore                                        # this board, live, with your own text
cahp prune --model my-model --data reviews.csv      # your own model and data"""


@dataclass(frozen=True, eq=False)
class SiteRun:
    """A finished run on the page."""

    run: RunDocument
    live: Live
    origin: Origin


def site_page(runs: Sequence[SiteRun], compared: Mapping[str, Iterable[Block]], *, measures: Measures = ()) -> str:
    """Return the page as an HTML document: a board for each run, then the blocks of each comparison by its heading.

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
    parts += [html_section(heading, html.draw(blocks)) for heading, blocks in compared.items()]
    parts.append(html_section("Your own model", [f"<pre>{safe(_COMMANDS)}</pre>"]))
    return html_page("CAHP Explorer", header, "".join(parts), boards=True)


def _draw_run(row: SiteRun) -> Iterator[str]:
    yield f"<p class=lead>{safe(verdict(row.run))}</p>"
    yield from live_board.board(row.run, row.run.mask, row.live)
    yield f"<p class=note>Measured on {safe(row.origin.machine)}, {safe(row.origin.date)}.</p>"
    yield f"<pre>{safe(row.origin.recipe)}</pre>"
