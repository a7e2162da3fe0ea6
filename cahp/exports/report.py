"""The report of a run: one HTML file that works offline, prints, and has an interactive board; and a page of several.

The file contains numbers, class names and settings, all escaped, and no texts of the data.
A content-security policy forbids it to load anything and to run any script but its own.
"""

import base64
import datetime
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cahp.board import style
from cahp.board.budget_sweep import BudgetTable, own_speed
from cahp.board.contents import describe_headline, list_clauses
from cahp.exports import live as live_board
from cahp.exports.drawings import STYLE, grid
from cahp.exports.formats import MASK_FILE
from cahp.exports.live import Live, live_of
from cahp.exports.run_folder import RUN_FOLDER, RunFiles
from cahp.files import is_there
from cahp.outcomes import HEADLINES
from cahp.output import Mark, Output
from cahp.recoveries import NONE, RECOVERIES, name_of_state
from cahp.run.document import BY_HAND, RunDocument
from cahp.run.measures import Measures, show_measured
from cahp.run.settings import Settings, flags, to_arguments
from cahp.run.show import list_checks, show_cost, show_notes, show_run
from cahp.show import html
from cahp.show.blocks import Block, Cell, Table, Text
from cahp.values import Ints, OptionError
from cahp.words import capital, safe

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; font-src data:"
_COMMANDS = """pip install "cahp-explorer[ui,demo]"
cahp explore                                        # this board, live, with your own text
cahp prune my-model --data reviews.csv      # your own model and data"""


@dataclass(frozen=True)
class Origin:
    """Where the numbers were measured and how to repeat the run.

    ``date`` is the day of a bundled measurement, otherwise the day of the report.
    """

    machine: str
    date: str
    recipe: str
    bundled: bool = False


def recipe(settings: Settings) -> str:
    """Return the command that repeats a run with ``settings``; a mask made by hand is read from ``head_mask.json``."""
    if settings.method == BY_HAND:
        command = ["evaluate", "--mask", MASK_FILE, *to_arguments(settings, flags("evaluate"))]
    else:
        command = ["prune", *to_arguments(settings, flags("prune")), "--out", RUN_FOLDER]
    return shlex.join(["cahp", *command])


def describe_value(run: RunDocument) -> tuple[str, str]:
    """Return what the pruned model is worth, recovered where it was: a headline, and what it costs and saves."""
    outcomes = run.outcomes.get("recovered", run.outcomes["pruned"])
    size = None
    if run.cost.full.parameters and run.cost.pruned.parameters:
        size = run.cost.pruned.parameters / run.cost.full.parameters
    cache = None
    if run.cache_shape is not None:
        cache = run.cache_shape.ratio(run.mask)
    answers = run.task.words.answers
    clauses = list_clauses(run.mask, outcomes, answers=answers, cache=cache, speed=own_speed(run), size=size)
    worth = ", ".join(clauses)
    if "recovered" in run.outcomes:
        worth = f"{capital(name_of_state(run.settings.recover))}: {worth}"
    return describe_headline(run.mask, run.model.unit, outcomes, run.task.words), worth


def page(
    run: RunDocument,
    *,
    origin: Origin,
    labels: Ints | None = None,
    live: Live | None = None,
    static: bool = False,
    measures: Measures = (),
) -> str:
    """Return the report as an HTML document.

    ``labels (N,)`` are the clusters of the heads, and part of ``live``, which makes the board interactive. ``static``
    leaves out every script. ``measures`` show what features measured.
    """
    title, worth = describe_value(run)
    method = "Heads that attend alike form a cluster; one head of each cluster is kept."
    if run.settings.method == BY_HAND:
        method = "The kept heads were chosen by hand."
    elif run.settings.method != Settings.method:
        method = f"The kept heads were chosen by the method {run.settings.method}."
    families = None
    if live is not None:
        labels = live.labels
        families = live.clusters.families
    drawn = grid(run.mask, labels, families, unit=run.model.unit)
    heads = [f"{drawn}<p class=note>Solid: kept, light: pruned. The letter names the cluster.</p>"]
    interactive = False
    if live is not None and not static:
        interactive = True
        heads = [*live_board.board(run, live), f"<noscript>{heads[0]}</noscript>"]
    _, *results = show_run(run)
    parts = [
        _draw_section("Kept heads", [f"<p>{safe(method)}</p>", *heads]),
        _draw_section("Quality and cost", html.draw([*results, *show_cost(run)])),
        "<h2 class=details>Details</h2>",
    ]
    if live is not None and live.table.full is not None:
        parts.append(_draw_section("Outcomes by budget", html.draw([_show_budgets(run, live.table)])))
    for one, blocks in show_measured(measures, run):
        parts.append(_draw_section(one.title, html.draw(blocks)))
    day = "Report of"
    checks: list[Block] = [Text(check) for check in list_checks(run)]
    selected = run.data.select
    evaluated = run.data.eval
    checks.append(
        Text(
            f"The heads were selected on {selected.split} and evaluated on {evaluated.split}. A budget that was chosen "
            f"on {evaluated.split} makes its own result slightly optimistic."
        )
    )
    checks += show_notes(run.notices, run.test_opened)
    if origin.bundled:
        day = "Measured"
        checks.append(Text("These figures are part of the package; they were measured on the machine named above."))
    splits = []
    for part in (selected, evaluated):
        counts = [f"{name}: {count}" for name, count in (part.class_counts or {}).items()]
        splits.append(", ".join([f"{part.split}, n = {part.examples:,}", *counts]))
    model = run.model
    kind = f"{model.family}, {model.layers} layers of {model.heads} {model.unit}s of {model.group} heads"
    facts = [
        ["Model", f"{model.id}, revision {model.revision or 'local'}"],
        ["Kind", kind.removesuffix(" of 1 heads")],
        ["Model digest", model.sha256],
        ["Heads selected on", splits[0]],
        ["Evaluated on", splits[1]],
        ["Protocol", str(run.protocol or "texts")],
        ["Method", run.settings.method],
        ["Seed", str(run.settings.seed)],
        ["Machine", origin.machine],
        [day, origin.date],
        ["Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())],
    ]
    repeat = f"<pre>{safe(origin.recipe)}</pre>"
    if run.settings.method == BY_HAND:
        repeat = f"<p>Save the mask as <code>{MASK_FILE}</code> first.</p>{repeat}"
    parts += [
        _draw_section("What was measured", [html.table("Facts", ["", ""], facts)]),
        _draw_section("Checks and limits", html.draw(checks)),
        _draw_section("How to repeat this run", [repeat]),
    ]
    header = (
        f"<p class=kicker>{safe(run.model.id)} on {safe(run.data.id)}</p>"
        f"<h1>{safe(title)}</h1><p class=lead>{safe(worth)}</p>"
    )
    return _draw_page(f"{title} – {run.model.id}", header, "".join(parts), boards=interactive)


def _show_budgets(run: RunDocument, table: BudgetTable) -> Table:
    """Return each headline outcome at every measured budget."""
    measured = {row.label: table.estimates(row.name) for row in HEADLINES if table.estimates(row.name)}
    budgets = sorted(set().union(*measured.values()))
    rows = list[list[Cell]]()
    for budget in budgets:
        rows.append([str(budget), *(estimates.get(budget) for estimates in measured.values())])
    after = RECOVERIES[table.recover].after or NONE.result
    title = f"{capital(after)}, with 95 % intervals, at {len(rows)} of {len(table.budgets)} budgets"
    return Table(title, [f"{run.model.unit}s kept", *measured], rows, name="budgets")


def _draw_section(title: str, body: Iterable[str]) -> str:
    """Return a section of a page, with a heading; the title is escaped here."""
    return f"<section><h2>{safe(title)}</h2>{''.join(body)}</section>"


def _draw_page(title: str, header: str, body: str, *, boards: bool) -> str:
    """Return a page that loads nothing, with the script of boards where there are ``boards``.

    ``header`` and ``body`` are HTML; the title is escaped here.
    """
    policy = _POLICY
    head = ""
    script = ""
    if boards:
        policy = live_board.policy()
        head = f"<style>{style()}{live_board.STYLE}</style>"
        script = f'<script type="module">{live_board.report_script()}</script>'
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="cahp.report/1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{_font_face()}{STYLE}</style>"
        f"{head}</head><body><main><header>{header}</header>{body}</main>{script}</body></html>\n"
    )


@cache
def _font_face() -> str:
    """Return the rule that embeds the letters of a report, which look alike on every machine then."""
    letters = base64.b64encode((Path(__file__).parent / "report_font.woff2").read_bytes()).decode("ascii")
    return (
        '@font-face{font-family:"CAHP Sans";font-weight:200 900;'
        f"src:url(data:font/woff2;base64,{letters}) format('woff2')}}"
    )


def run_report(files: RunFiles, *, day: datetime.date, static: bool = False, measures: Measures = ()) -> str:
    """Return the report of the run in a folder as an HTML document; nothing is measured.

    Its board is interactive if the folder contains the masks of other budgets.
    """
    run = files.document
    origin = Origin(run.machine or "not recorded", day.isoformat(), recipe(run.settings))
    live = live_of(files, measures)
    return page(run, origin=origin, labels=files.labels, live=live, static=static, measures=measures)


def write_report(text: str, file: Path, *, force: bool = False) -> Path:
    """Write a report as ``file``, whole or not at all; it replaces another report, and with ``force`` any file.

    Raises:
        OptionError: If the file exists and is no report, or is a folder.
        UnwrittenError: If it cannot be written.
    """
    if is_there(file, Path.is_dir):
        raise OptionError(f"{file} is a folder; name another file with --out")
    output = Output(file.parent, force=force)
    output.check_files([file.name], Mark(file.name, "cahp.report"))
    output.write({file.name: text.encode()})
    if output.folder == file.parent:
        return file
    return output.folder / file.name


def site_page(
    runs: Sequence[tuple[RunDocument, Live, Origin]],
    compared: Mapping[str, Iterable[Block]],
    *,
    measures: Measures,
) -> str:
    """Return a page for any static host: a board for each run, then the blocks of each comparison by its heading."""
    header = (
        "<p class=kicker>CAHP Explorer</p><h1>Which attention heads does a model need?</h1>"
        "<p class=lead>Heads that attend alike form a cluster, and one head of each cluster is kept. Drag the number "
        "of heads: the figures were measured once, and ship with this page.</p>"
    )
    parts = []
    for run, live, origin in runs:
        drawn = [
            f"<p class=lead>{safe(': '.join(describe_value(run)))}</p>",
            *live_board.board(run, live),
            f"<p class=note>Measured on {safe(origin.machine)}, {safe(origin.date)}.</p>",
            f"<pre>{safe(origin.recipe)}</pre>",
        ]
        parts.append(_draw_section(f"{run.model.id} on {run.data.id}", drawn))
        # Tables scroll in sections of their own, which would cut a board.
        for one, blocks in show_measured(measures, run):
            parts.append(_draw_section(f"{run.model.id}: {one.title}", html.draw(blocks)))
    parts += [_draw_section(heading, html.draw(blocks)) for heading, blocks in compared.items()]
    parts.append(_draw_section("Your own model", [f"<pre>{safe(_COMMANDS)}</pre>"]))
    return _draw_page("CAHP Explorer", header, "".join(parts), boards=True)
