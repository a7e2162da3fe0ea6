"""The report of a run: one HTML file that works offline, prints, and has an interactive board.

The file contains numbers, class names and settings, all escaped, and texts of the data only if the user allowed them.
A content-security policy forbids it to load anything and to run any script but its own.
"""

from __future__ import annotations

import base64
import datetime
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from cahp.board import style
from cahp.board.budget_sweep import own_speed
from cahp.board.contents import Savings, WeightCount, describe_headline, list_clauses
from cahp.exports import drawings
from cahp.exports import live as live_board
from cahp.exports.drawings import STYLE, grid
from cahp.exports.formats import MASK_FILE
from cahp.exports.live import Live, live_of
from cahp.exports.run_folder import RUN_FOLDER, RunFiles
from cahp.files import is_there
from cahp.outcomes import HEADLINES, Outcomes
from cahp.output import Mark, Output
from cahp.recoveries import name_of_state
from cahp.run.document import BY_HAND, RunDocument
from cahp.run.measures import Measures, show_measured
from cahp.run.settings import Settings, flags, to_arguments
from cahp.run.show import (
    list_checks,
    list_recoveries,
    show_choice,
    show_outcomes,
    show_recoveries,
    show_recovery,
    show_run_cost,
)
from cahp.show import html
from cahp.show.blocks import Block
from cahp.tasks import CLASSIFICATION, NEXT_TOKEN
from cahp.values import Ints, OptionError
from cahp.words import capital, interval, percent, safe

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; font-src data:"
#: What follows is for those who check.
_DETAILS = "<h2 class=details>Details</h2>"
#: Characters of an example text that are shown.
_EXCERPT = 280


#: A text whose prediction changed, its label, and the predictions of the full and the pruned model.
Example = tuple[str, str, str, str]


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
    savings = Savings(speed=own_speed(run))
    if run.kv_cache is not None:
        savings = replace(savings, cache=run.kv_cache.share)
    weights = WeightCount.of(run)
    if weights is not None:
        savings = replace(savings, size=weights.ratio(run.mask))
    answers = CLASSIFICATION.words.answers
    if run.protocol is not None:
        answers = NEXT_TOKEN.words.answers
    worth = ", ".join(list_clauses(run.mask, outcomes, savings, answers=answers))
    if "recovered" in run.outcomes:
        worth = f"{capital(name_of_state(run.settings.recover))}: {worth}"
    return describe_headline(run.mask, run.model.unit, outcomes), worth


def verdict(run: RunDocument) -> str:
    """Summarize what pruning did in two or three sentences."""
    total = run.model.layers * run.model.heads
    outcomes = run.outcomes["pruned"]
    after = ""
    if "recovered" in run.outcomes:
        outcomes = run.outcomes["recovered"]
        after = " after recovery"
    accuracy = ""
    if "accuracy" in outcomes:
        full = run.outcomes["full"]["accuracy"]
        now = outcomes["accuracy"]
        change = outcomes["accuracy_change"]
        difference = f"no measurable change ({change.text}, 95 % interval {change.interval})"
        if change.excludes(0):
            direction = "higher"
            if change.value < 0:
                direction = "lower"
            difference = f"{abs(change.value):.1f} points {direction} (95 % interval {change.interval})"
        accuracy = f"Accuracy on {now.n:,} texts{after} is {now.text}; with all heads it is {full.text}: {difference}. "
    same = [row for row in HEADLINES if row.difference and row.name in outcomes]
    against_full = "".join(f"{capital(row.label)} {outcomes[row.name]}. " for row in same)
    if "perplexity" in outcomes:
        before = run.outcomes["full"]["perplexity"]
        against_full += f"Perplexity{after} is {outcomes['perplexity'].text}; with all heads it is {before.text}. "
    speed = own_speed(run)
    if run.kv_cache is not None:
        latency = f"Its KV cache takes {percent(run.kv_cache.share, 0)} of the full model's memory per token."
    elif speed is None:
        latency = "Time was not measured."
    elif speed.busy:
        latency = "Its latency is not known: the machine was busy."
    elif not speed.ratio.excludes(1):
        latency = "Its latency does not change measurably."
    else:
        ratio = speed.ratio
        latency = (
            f"With the other heads cut out, the model takes {percent(ratio.value, 0)} of the time of the full model "
            f"(95 % interval {interval(ratio.low * 100, ratio.high * 100, 0)})."
        )
    return f"{run.budget.attained} of {total} {run.model.unit}s are kept. {accuracy}{against_full}{latency}"


def page(
    run: RunDocument,
    *,
    origin: Origin,
    labels: Ints | None = None,
    live: Live | None = None,
    static: bool = False,
    recoveries: Mapping[str, Outcomes] | None = None,
    examples: Sequence[Example] = (),
    measures: Measures = (),
) -> str:
    """Return the report as an HTML document.

    ``labels (N,)`` are the clusters of the heads, and part of ``live``, which makes the board interactive. ``static``
    leaves out every script. ``recoveries`` are results of the same mask after other recoveries, by what they are called
    beside others ("after refit"). ``examples`` are texts of the data that the user allowed. ``measures`` show what
    features measured.
    """
    mask = run.mask
    title, worth = describe_value(run)
    interactive = live
    if static:
        interactive = None
    families = None
    if live is not None:
        labels = live.labels
        families = live.clusters.families
    outcomes = "Quality and latency"
    if run.data.labelled:
        outcomes = "Accuracy and latency"
    # The kept heads and their main figures fill the first three screens.
    compared = list_recoveries(run, recoveries or {})
    parts = [html_section("Kept heads", _kept_heads(run, labels, families, interactive))]
    recovery = [*show_recovery(run.refit, run.distill, run.steps, run.protocol)]
    if len(compared) > 1 or run.steps:
        if len(compared) > 1:
            recovery.insert(0, show_recoveries(run, compared))
        parts += [html_section("Effect of recovery", html.draw(recovery)), _DETAILS]
        parts.append(html_section(outcomes, html.draw(_show_figures(run))))
    else:
        parts += [html_section(outcomes, html.draw([*_show_figures(run), *recovery])), _DETAILS]
    if live is not None and live.table.full is not None and live.table.measured()[0] > 1:
        parts.append(html_section("Outcomes by budget", drawings.budgets(run, live.table)))
    parts += [html_section(one.title, html.draw(blocks)) for one, blocks in show_measured(measures, run)]
    if examples:
        parts.append(html_section("Changed predictions", _examples(examples)))
    if live is not None:
        parts.append(html_section("Replacement heads", live_board.covers(mask, live.clusters, live.labels)))
    parts += [
        html_section("What was measured", _measured(run, origin)),
        html_section("Checks and limits", _checks(run, origin)),
        html_section("How to repeat this run", _repeat(run, origin)),
    ]
    header = (
        f"<p class=kicker>{safe(run.model.id)} on {safe(run.data.id)}</p>"
        f"<h1>{safe(title)}</h1><p class=lead>{safe(worth)}</p><p>{safe(verdict(run))}</p>"
    )
    return html_page(f"{title} – {run.model.id}", header, "".join(parts), boards=interactive is not None)


def html_page(title: str, header: str, body: str, *, boards: bool) -> str:
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
    labels = None
    if "labels" in files.arrays:
        labels = files.arrays["labels"].astype(np.int64)
    origin = Origin(run.machine or "not recorded", day.isoformat(), recipe(run.settings))
    return page(run, origin=origin, labels=labels, live=live_of(files, measures), static=static, measures=measures)


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


# Sections ------------------------------------------------------------------------------------------------------


def html_section(title: str, body: Iterable[str]) -> str:
    """Return a section of a page, with a heading; the title is escaped here."""
    return f"<section><h2>{safe(title)}</h2>{''.join(body)}</section>"


def _show_figures(run: RunDocument) -> Iterator[Block]:
    """Yield the outcomes on every split that was opened, and the cost."""
    yield show_outcomes("Quality, with 95 % intervals", run.outcomes, run.protocol)
    if run.report is not None:
        title = f"Quality on the {run.report.split} split, with 95 % intervals"
        yield show_outcomes(title, run.report.outcomes, run.protocol)
    yield from show_run_cost(run)


def _kept_heads(run: RunDocument, labels: Ints | None, families: Ints | None, live: Live | None) -> Iterator[str]:
    yield (
        "<p>A transformer has many attention heads. Each attends to the words of a text in its own way, and some "
        "attend alike. "
    )
    method = run.settings.method
    if method == Settings.method:
        alike = "separate the classes in the same way"
        if run.protocol:
            alike = "attend in the same way"
        yield f"Heads that {alike} form a cluster; one head of each cluster is kept.</p>"
    elif method == BY_HAND:
        yield "The kept heads were chosen by hand.</p>"
    else:
        yield f"The kept heads were chosen by the method {safe(method)}.</p>"
    legend = "<span class=solid></span> kept <span class=light></span> pruned"
    if labels is not None:
        legend += "; the letter names the cluster; its family has one colour at every budget"
    unit = run.model.unit
    drawn = grid(run.mask, labels, families, unit=unit)
    still = f"{drawn}<p class=note>{legend}. Layers and {unit}s count from 0.</p>"
    if run.rescued:
        added = ", ".join(f"layer {layer} {unit} {head}" for layer, head in run.rescued)
        still += f"<p class=note>Added by the per-layer minimum: {safe(added)}.</p>"
    if live is None:
        yield still
    else:
        yield from live_board.board(run, run.mask, live)
        yield (
            "<noscript><p class=note>The interactive board needs a script, which is disabled here; a static drawing "
            f"follows.</p>{still}</noscript>"
        )
    yield from html.draw(show_choice(run))


def _examples(examples: Sequence[Example]) -> Iterator[str]:
    yield "<p>Texts whose prediction changed. The author of this report allowed them to be shown.</p>"
    columns = ["text", "label", "full model", "pruned model"]
    rows = [[_excerpt(text), *names] for text, *names in examples]
    if not any(label for _, label, *_ in examples):
        columns.remove("label")
        for row in rows:
            del row[1]
    yield html.table("Examples", columns, rows)


def _excerpt(text: str) -> str:
    if len(text) <= _EXCERPT:
        return text
    return f"{text[:_EXCERPT]}…"


def _measured(run: RunDocument, origin: Origin) -> Iterator[str]:
    texts = "Windows"
    columns = ["", "split", "number"]
    if run.protocol is None:
        texts = "Texts"
        columns.append("per class")
    rows = []
    for role, part in (("selection", run.data.select), ("evaluation", run.data.eval)):
        cells = [role, part.split, f"{part.examples:,}"]
        if run.protocol is None:
            classes = "no labels"
            if part.class_counts is not None:
                classes = ", ".join(f"{name}: {count}" for name, count in part.class_counts.items())
            cells.append(classes)
        rows.append(cells)
    yield html.table(texts, columns, rows)
    model = run.model
    name = model.id
    if model.revision is not None:
        name += f"@{model.revision}"
    day = "Report of"
    if origin.bundled:
        day = "Measured"
    kind = f"{model.family}, {model.layers} layers of {model.heads} {model.unit}s"
    if model.group > 1:
        kind += f" of {model.group} heads"
    facts = [
        ("Model", name),
        ("Kind", kind),
        ("Model digest", model.sha256),
        ("Machine", origin.machine),
        (day, origin.date),
    ]
    if run.protocol is not None:
        facts.append(("Evaluated on", str(run.protocol)))
    facts += [("Method", run.settings.method), ("Seed", str(run.settings.seed))]
    if run.knee is not None:
        facts.append(("Published rule", f"stops at {run.knee} {model.unit}s"))
    facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())))
    yield html.table("Facts", ("", ""), facts)


def _checks(run: RunDocument, origin: Origin) -> Iterator[str]:
    selected = run.data.select.split
    evaluated = run.data.eval.split
    opened = {0: "has not been used", 1: "was used once"}.get(run.test_opened, f"was used {run.test_opened} times")
    points = [
        *list_checks(run),
        f"The heads were selected on {selected} and evaluated on {evaluated}. A budget that was chosen on {evaluated} "
        "makes its own result slightly optimistic.",
        f"The test split {opened} for this model on this machine.",
        *run.notices,
    ]
    if origin.bundled:
        points.append("These figures are part of the package; they were measured on the machine named above.")
    yield f"<ul>{''.join(f'<li>{safe(point)}</li>' for point in points)}</ul>"


def _repeat(run: RunDocument, origin: Origin) -> Iterator[str]:
    if run.settings.method == BY_HAND:
        yield "<p>The heads were chosen by hand: save the mask as <code>head_mask.json</code> first.</p>"
    yield f"<p>In a terminal:</p><pre>{safe(origin.recipe)}</pre>"
