"""The report of a run: one HTML file that works offline, prints, and has an interactive board.

The file contains numbers, class names and settings, all escaped, and texts of the data only if the user allowed them.
A content-security policy forbids it to load anything and to run any script but its own.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cahp.exports import report_figures
from cahp.exports.drawings import STYLE, Clusters, Curve, grid, silhouette, table
from cahp.exports.live import Live, board, covers, head, no_script, policy, script_element
from cahp.exports.recipe import recipe
from cahp.outcomes import Outcomes
from cahp.run.document import BY_HAND, RunDocument
from cahp.run.settings import Settings
from cahp.values import HeadMask
from cahp.words import interval, percent, safe

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
#: Characters of an example text that are shown.
_EXCERPT = 280


@dataclass(frozen=True)
class Example:
    """A text whose prediction changed: its label and the predictions of the full and the pruned model."""

    text: str
    label: str
    full: str
    pruned: str


@dataclass(frozen=True)
class Origin:
    """Where the numbers were measured and how to repeat the run.

    ``date`` is the day of a bundled measurement, otherwise the day of the report.
    """

    machine: str
    date: str
    command: str
    python: str
    bundled: bool = False

    @classmethod
    def of(cls, run: RunDocument, day: datetime.date) -> Origin:
        """Describe a run that is reported on ``day``."""
        again = recipe(run.settings)
        return cls(run.machine or "not recorded", day.isoformat(), again.shell, again.python)


def verdict(run: RunDocument) -> str:
    """Summarize what pruning did in two or three sentences."""
    total = run.model.layers * run.model.heads
    state = "recovered" if "recovered" in run.outcomes else "pruned"
    full, now = run.outcomes["full"]["accuracy"], run.outcomes[state]["accuracy"]
    change = run.outcomes[state]["accuracy_change"]
    if change.excludes(0):
        lost = "lower" if change.value < 0 else "higher"
        difference = f"{abs(change.value):.1f} points {lost} (95 % interval {change.interval})"
    else:
        difference = f"no measurable change ({change.text}, 95 % interval {change.interval})"
    after = " after recovery" if state == "recovered" else ""
    said = (
        f"{run.budget.attained} of {total} heads are kept. Accuracy on {now.n:,} texts{after} is {now.text}; with all "
        f"heads it is {full.text}: {difference}."
    )
    return f"{said} {_time(run)}"


def _time(run: RunDocument) -> str:
    ratio = run.latency_ratio
    if ratio is None:
        return "Time was not measured."
    if not ratio.excludes(1):
        return "Its latency does not change measurably."
    low, high = ratio.low, ratio.high
    return (
        f"With the other heads cut out, the model takes {percent(ratio.value, 0)} of the time of the full model "
        f"(95 % interval {interval(low * 100, high * 100, 0)})."
    )


def page(
    run: RunDocument,
    mask: HeadMask,
    *,
    origin: Origin,
    clusters: Clusters | None = None,
    curve: Curve | None = None,
    live: Live | None = None,
    static: bool = False,
    recoveries: Mapping[str, Outcomes] | None = None,
    examples: Sequence[Example] = (),
) -> str:
    """Return the report as an HTML document.

    ``run`` is a document of the schema ``cahp.run/1`` about ``mask``. ``live`` makes the board interactive; ``static``
    leaves out every script. ``recoveries`` are results of the same mask after other recoveries, by name of the result
    ("refitted"). ``examples`` are texts of the data that the user allowed.
    """
    title = f"{run.budget.attained} of {mask.keep.size} attention heads kept"
    if live is not None:
        clustering = live.clusters.clustering
        clusters, curve = Clusters.of(live.labels), Curve(clustering.ks, clustering.mss, clustering.knee)
    answering = None if static else live
    sections = [
        _section("Kept heads", _which(run, mask, clusters, answering)),
        _section("Accuracy and latency", report_figures.figures(run)),
    ]
    compared = report_figures.by_recovery(run, recoveries or {})
    if len(compared) > 1 or run.steps:
        sections.append(_section("Effect of recovery", report_figures.recoveries(run, compared)))
    if live is not None and live.table.full is not None and live.table.measured()[0] > 1:
        sections.append(_section("Accuracy by budget", report_figures.budgets(run, live.table)))
    if examples:
        sections.append(_section("Changed predictions", _examples(examples)))
    if live is not None:
        sections.append(_section("Replacement heads", covers(mask, live.clusters, live.labels)))
    if curve is not None:
        sections.append(_section("The number of heads", _why(run, curve, answering is not None)))
    sections += [
        _section("What was measured", _measured(run, origin)),
        _section("Checks and limits", _trust(run, origin)),
        _section("How to repeat this run", _again(run, origin)),
    ]
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="cahp.report/1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY if answering is None else policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)} – {safe(run.model.id)}</title><style>{STYLE}</style>"
        f"{'' if answering is None else head()}</head><body><main>"
        f"<header><p class=kicker>{safe(run.model.id)} on {safe(run.data.id)}</p>"
        f"<h1>{safe(title)}</h1><p class=lead>{safe(verdict(run))}</p></header>"
        + "".join(sections)
        + f"</main>{'' if answering is None else script_element()}</body></html>\n"
    )


def _section(title: str, body: Iterable[str]) -> str:
    return f"<section><h2>{safe(title)}</h2>{''.join(body)}</section>"


def _which(run: RunDocument, mask: HeadMask, clusters: Clusters | None, live: Live | None) -> Iterator[str]:
    yield (
        "<p>A transformer has many attention heads. Each attends to the words of a text in its own way, and some "
        "attend alike. "
    )
    method = run.settings.method
    if method == Settings.method:
        yield "Heads that separate the classes in the same way form a cluster; one head of each cluster is kept.</p>"
    elif method == BY_HAND:
        yield "The kept heads were chosen by hand.</p>"
    else:
        yield f"The kept heads were chosen by the method {safe(method)}.</p>"
    if live is not None:
        yield from board(run, mask, live)
        yield f"<noscript><p class=note>{no_script()}</p>{''.join(_still(run, mask, clusters))}</noscript>"
    else:
        yield from _still(run, mask, clusters)


def _still(run: RunDocument, mask: HeadMask, clusters: Clusters | None) -> Iterator[str]:
    yield grid(mask, clusters)
    legend = "<span class=solid></span> kept <span class=hollow></span> pruned"
    if clusters is not None:
        legend += "; letter and colour name the cluster (colours for the largest, stripes for the next)"
    yield f"<p class=note>{legend}. Layers and heads count from 0.</p>"
    rescued = run.rescued
    if rescued:
        heads = ", ".join(f"layer {layer} head {head}" for layer, head in rescued)
        yield f"<p class=note>Kept so that every layer has a head: {safe(heads)}.</p>"


def _why(run: RunDocument, curve: Curve, on_board: bool) -> Iterator[str]:
    asked, kept = run.budget.requested, run.budget.attained
    said = "The curve shows how well k clusters separate the heads. "
    said += (
        f"Its knee is at {curve.knee}: more clusters add little."
        if curve.knee
        else "It has no knee, so it does not suggest a number of heads."
    )
    if run.settings.method == BY_HAND:
        said += f" Here {kept} heads were chosen by hand."
        if curve.knee:
            more = kept - curve.knee
            said += (
                " The curve suggests the same number."
                if not more
                else f" That is {abs(more)} {'more' if more > 0 else 'fewer'} than the curve suggests."
            )
    elif asked is not None:
        said += f" The budget of this run is {asked} heads."
    yield f"<p>{safe(said)}</p>"
    yield f"<noscript>{silhouette(curve)}</noscript>" if on_board else silhouette(curve)


def _examples(found: Sequence[Example]) -> Iterator[str]:
    yield "<p>Texts whose prediction changed. The author of this report allowed them to be shown.</p>"
    rows = [
        (f"{one.text[:_EXCERPT]}{'…' if len(one.text) > _EXCERPT else ''}", [one.label, one.full, one.pruned])
        for one in found
    ]
    yield table("Examples", ["label", "full model", "pruned model"], rows)


def _measured(run: RunDocument, origin: Origin) -> Iterator[str]:
    rows = []
    for role, part in (("selection", run.data.select), ("evaluation", run.data.eval)):
        counts = ", ".join(f"{name}: {count}" for name, count in part.class_counts.items())
        rows.append((role, [part.split, f"{part.examples:,}", counts]))
    yield table("Texts", ["split", "number", "per class"], rows)
    model = run.model
    facts = {
        "Model": f"{model.id}{'' if model.revision is None else '@' + model.revision}",
        "Kind": f"{model.family}, {model.layers} layers of {model.heads} heads",
        "Model digest": model.sha256,
        "Machine": origin.machine,
        "Measured" if origin.bundled else "Report of": origin.date,
        "Method": run.settings.method,
        "Seed": run.settings.seed,
        "Versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
    }
    yield table("Facts", [""], [(name, [str(value)]) for name, value in facts.items()])


def _trust(run: RunDocument, origin: Origin) -> Iterator[str]:
    verified = run.verified
    said = []
    if verified.mask_bites:
        said.append("Masking heads changes the output of the model: the mask takes effect.")
    if verified.mask_equals_surgery:
        said.append("The masked model and the model with the same heads cut out give the same output.")
    else:
        said.append("One layer keeps no head, so the heads can be masked but not cut; latency was not measured.")
    split = run.data.eval.split
    said.append(
        f"The heads were selected on {run.data.select.split} and evaluated on {split}. A budget that was chosen on "
        f"{split} makes its own result slightly optimistic."
    )
    opened = run.test_opened
    times = {0: "has not been used", 1: "was used once"}.get(opened, f"was used {opened} times")
    said.append(f"The test split {times} for this model on this machine.")
    said += run.notices
    if origin.bundled:
        said.append("These figures are part of the package; they were measured on the machine named above.")
    yield f"<ul>{''.join(f'<li>{safe(point)}</li>' for point in said)}</ul>"


def _again(run: RunDocument, origin: Origin) -> Iterator[str]:
    if run.settings.method == BY_HAND:
        yield "<p>The heads were chosen by hand: save the mask as <code>head_mask.json</code> first.</p>"
    yield f"<p>In a terminal:</p><pre>{safe(origin.command)}</pre>"
    yield f"<p>In Python:</p><pre>{safe(origin.python)}</pre>"
