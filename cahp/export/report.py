"""A run as one HTML file for people who were not there: opens offline, prints, needs no script.

The file holds no text of the data, only numbers, class names and settings; all of them are escaped, and a
content-security policy forbids the file to load anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cahp.run.document import BY_HAND, RunDocument, StateDeltas, StateMetrics
from cahp.values import Floats, HeadMask, Ints, Metrics
from cahp.words import interval, percent, points

_CELL, _GAP, _LEFT, _TOP = 26, 4, 74, 26
_NAMES = {"full": "all heads", "pruned": "pruned", "recovered": "recovered"}


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which heads are alike: ``labels (N,)``, and a colour (CSS) and a name for each cluster."""

    labels: Ints
    colours: Sequence[str]
    names: Sequence[str]


@dataclass(frozen=True, eq=False)
class Curve:
    """The silhouette ``mss (K,)`` over the numbers of clusters ``ks (K,)``, and its knee."""

    ks: Ints
    mss: Floats
    knee: int


@dataclass(frozen=True)
class Origin:
    """Where the numbers were measured and how to measure them again.

    ``date`` is the day of a bundled measurement, otherwise the day of the report.
    """

    machine: str
    date: str
    command: str
    python: str
    bundled: bool = False


def verdict(run: RunDocument) -> str:
    """What pruning did, in two or three sentences of plain words."""
    total = run.model.layers * run.model.heads
    state = "recovered" if run.metrics.recovered is not None else "pruned"
    full, now, change = run.metrics.full, run.metrics.measured[state], run.delta.of(state)
    assert change is not None
    if change.measurable:
        lost = "fewer" if change.pp < 0 else "more"
        difference = f"{abs(change.pp):.1f} points {lost} (95 % interval {interval(*change.ci95)})"
    else:
        difference = f"no measurable change ({points(change.pp)}, 95 % interval {interval(*change.ci95)})"
    after = " after recovery" if state == "recovered" else ""
    said = (
        f"{run.budget.attained} of {total} heads are kept. With them the model answers "
        f"{percent(now.accuracy)} of {now.n:,} texts rightly{after}; with all heads "
        f"{percent(full.accuracy)}: {difference}."
    )
    return f"{said} {_time(run)}"


def _time(run: RunDocument) -> str:
    ratio = run.latency_ratio
    if ratio is None:
        return "Time was not measured."
    if not ratio.measurable:
        return "The time it takes does not change measurably."
    low, high = ratio.ci95
    verb = "takes" if ratio.median < 1 else "takes, against all hopes,"
    return (
        f"Cut out of the model, it {verb} {percent(ratio.median, 0)} of the time "
        f"(95 % interval {interval(low * 100, high * 100, 0)})."
    )


def page(
    run: RunDocument,
    mask: HeadMask,
    *,
    origin: Origin,
    clusters: Clusters | None = None,
    curve: Curve | None = None,
) -> str:
    """The report: a whole HTML document as text.

    ``run`` is a document of the schema ``cahp.run/1`` about ``mask``.
    """
    title = f"{run.budget.attained} of {mask.keep.size} attention heads kept"
    sections = [
        _section("Which heads stay", _which(run, mask, clusters)),
        _section("What it costs and saves", _figures(run)),
    ]
    if curve is not None and run.knee is not None:
        sections.append(_section("Why this many", _why(run, curve)))
    sections += [
        _section("What was measured, on what", _measured(run, origin)),
        _section("Can it be trusted", _trust(run, origin)),
        _section("How to make it again", _again(run, origin)),
    ]
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(title)} – {_safe(run.model.id)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><p class=kicker>{_safe(run.model.id)} on {_safe(run.data.id)}</p>"
        f"<h1>{_safe(title)}</h1><p class=lead>{_safe(verdict(run))}</p></header>"
        + "".join(sections)
        + "</main></body></html>\n"
    )


def _safe(value: object) -> str:
    return html.escape(str(value))


def _section(title: str, body: Iterable[str]) -> str:
    return f"<section><h2>{_safe(title)}</h2>{''.join(body)}</section>"


def _which(run: RunDocument, mask: HeadMask, clusters: Clusters | None) -> Iterator[str]:
    yield (
        "<p>A transformer reads a text with many attention heads side by side; each looks at the words in its own way, "
        "and some look alike. "
    )
    yield (
        "These heads were chosen by hand.</p>"
        if run.settings.method == BY_HAND
        else "Heads that tell the classes apart in the same way form a cluster, and each cluster keeps one of them.</p>"
    )
    yield _grid(mask, clusters)
    legend = "<span class=solid></span> kept <span class=hollow></span> removed"
    if clusters is not None:
        legend += "; the letter and the colour say which heads are alike (the largest clusters have colours)"
    yield f"<p class=note>{legend}. Layers and heads count from 0.</p>"
    rescued = run.rescued
    if rescued:
        heads = ", ".join(f"layer {layer} head {head}" for layer, head in rescued)
        yield f"<p class=note>Kept so that no layer is empty: {_safe(heads)}.</p>"


def _grid(mask: HeadMask, clusters: Clusters | None) -> str:
    step = _CELL + _GAP
    width, height = _LEFT + mask.heads * step, _TOP + mask.layers * step
    rows = "; ".join(f"layer {layer} keeps {heads or 'none'}" for layer, heads in enumerate(mask.by_layer))
    drawn = [
        f'<svg class=grid viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="Grid of {mask.layers} layers and {mask.heads} heads: {_safe(rows)}">'
    ]
    drawn += [f'<text x="{_LEFT + head * step + _CELL / 2}" y="16">{head}</text>' for head in range(mask.heads)]
    for layer in range(mask.layers):
        y = _TOP + layer * step
        drawn.append(f'<text class=side x="{_LEFT - 10}" y="{y + 17}">layer {layer}</text>')
        for head in range(mask.heads):
            drawn.append(_cell(mask, clusters, layer, head, _LEFT + head * step, y))
    return "".join(drawn) + "</svg>"


def _cell(mask: HeadMask, clusters: Clusters | None, layer: int, head: int, x: int, y: int) -> str:
    kept = bool(mask.keep[layer, head])
    colour, name = "var(--accent)", ""
    if clusters is not None:
        cluster = int(clusters.labels[layer * mask.heads + head])
        colour, name = clusters.colours[cluster], clusters.names[cluster]
    tip = f"layer {layer}, head {head}: {'kept' if kept else 'removed'}{f', cluster {name}' if name else ''}"
    fill = colour if kept else "none"
    inside = f'<text class={"on" if kept else "off"} x="{x + _CELL / 2}" y="{y + 17}">{_safe(name)}</text>'
    return (
        f'<g><title>{_safe(tip)}</title><rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" '
        f'rx="4" fill="{_safe(fill)}" stroke="{_safe(colour)}" stroke-width="1.5" '
        f'stroke-opacity="{1 if kept else 0.55}"/>{inside if name else ""}</g>'
    )


def _figures(run: RunDocument) -> Iterator[str]:
    yield from _quality("Quality", run.metrics, run.delta)
    if run.report is not None:
        yield from _quality(f"Quality on the {run.report.split} split", run.report.metrics, run.report.delta)
    if run.refit is not None:
        taken = "was taken" if run.refit.accepted else "was rejected, so nothing changed"
        yield f"<p class=note>Recovery without training (refit) {taken}: {_safe(run.refit.reason)}.</p>"
    yield from _cost(run)


def _quality(caption: str, metrics: StateMetrics, delta: StateDeltas) -> Iterator[str]:
    of = {_NAMES[state]: one for state, one in metrics.measured.items()}
    changes = [delta.of(state) for state in metrics.measured]
    yield _intervals(of)
    rows = [
        ("Right answers", [percent(one.accuracy) for one in of.values()]),
        ("95 % interval", [interval(one.ci95[0] * 100, one.ci95[1] * 100) for one in of.values()]),
        ("Against all heads", ["" if one is None else points(one.pp) for one in changes]),
        ("95 % interval of it", ["" if one is None else interval(*one.ci95) for one in changes]),
        ("Macro-F1", [percent(one.macro_f1) for one in of.values()]),
        ("Same answer as all heads", [_share(one.agreement) for one in of.values()]),
        ("Texts", [f"{one.n:,}" for one in of.values()]),
    ]
    yield _table(caption, list(of), rows)


def _cost(run: RunDocument) -> Iterator[str]:
    ratio, full, pruned = run.latency_ratio, run.cost.full, run.cost.pruned
    before, after = full.latency_ms, pruned.latency_ms
    if ratio is None or before is None or after is None:
        yield "<p>Time and size were not measured.</p>"
        return
    rows = [
        ("Time of a batch, median", [f"{one.median:.1f} ms" for one in (before, after)]),
        ("95th percentile", [f"{one.p95:.1f} ms" for one in (before, after)]),
        ("Weights", [f"{(one.parameters or 0) / 1e6:.1f} M" for one in (full, pruned)]),
        ("Operations of one text", [f"{(one.flops or 0) / 1e9:.2f} G" for one in (full, pruned)]),
    ]
    yield _table("Cost", ["all heads", "pruned"], rows)
    yield (
        f"<p class=note>A batch is {before.batch} texts of {before.length} tokens; {before.repeats} rounds, "
        f"both models in turn. Time ratio {ratio.median:.2f} {interval(*ratio.ci95, 2)}. Attention takes "
        f"{_share(run.attention_share, 0)} of the full model's time: no removal of heads can save more.</p>"
    )


def _share(value: float | None, digits: int = 1) -> str:
    return "" if value is None else percent(value, digits)


def _table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    head = "".join(f"<th scope=col>{_safe(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th scope=row>{_safe(name)}</th>{''.join(f'<td>{_safe(cell)}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    return (
        f"<table><caption>{_safe(caption)}</caption><thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def _intervals(found: Mapping[str, Metrics]) -> str:
    """Accuracies as dots with their intervals, on an axis from 0 to 100 %."""
    left, width, row = 110, 460, 34
    bottom = 10 + row * len(found)
    said = "; ".join(
        f"{name} {percent(one.accuracy)} {interval(one.ci95[0] * 100, one.ci95[1] * 100)}"
        for name, one in found.items()
    )
    drawn = [
        f'<svg viewBox="0 0 600 {bottom + 44}" style="max-width:600px" role="img" '
        f'aria-label="Right answers with 95 % intervals: {_safe(said)}">'
    ]
    for tick in range(0, 101, 25):
        x = left + width * tick / 100
        drawn.append(f'<line class=rule x1="{x}" x2="{x}" y1="6" y2="{bottom}"/>')
        drawn.append(f'<text x="{x}" y="{bottom + 16}">{tick}</text>')
    drawn.append(f'<text x="{left + width / 2}" y="{bottom + 36}">right answers in %</text>')
    for index, (name, one) in enumerate(found.items()):
        y = 10 + row * index + row / 2
        low, high = (left + width * end for end in one.ci95)
        drawn.append(f'<text class=side x="{left - 12}" y="{y + 4}">{_safe(name)}</text>')
        drawn.append(f'<line class=whisker x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<circle cx="{left + width * one.accuracy:.1f}" cy="{y}" r="6"/>')
    return "".join(drawn) + "</svg>"


def _why(run: RunDocument, curve: Curve) -> Iterator[str]:
    asked = run.budget.requested
    said = (
        f"The curve says how well the heads fall into k groups. Its knee is at {curve.knee}: more groups say little "
        "new."
    )
    if asked is not None:
        said += f" Here {asked} heads were asked for."
    yield f"<p>{_safe(said)}</p>"
    left, width, height = 60, 520, 170
    low, high = float(np.min(curve.mss)), float(np.max(curve.mss))
    first, last = int(curve.ks[0]), int(curve.ks[-1])

    def across(k: float) -> float:
        return left + width * (k - first) / max(1, last - first)

    def down(value: float) -> float:
        return 14 + height * (high - value) / max(1e-12, high - low)

    line = " ".join(
        f"{across(k):.1f},{down(value):.1f}" for k, value in zip(curve.ks.tolist(), curve.mss.tolist(), strict=True)
    )
    knee = across(curve.knee)
    yield (
        f'<svg viewBox="0 0 600 {height + 58}" style="max-width:600px" role="img" '
        f'aria-label="Silhouette from {low:.2f} at its lowest to {high:.2f}; its knee is at {curve.knee} clusters">'
        f'<line class=rule x1="{left}" x2="{left + width}" y1="{height + 14}" y2="{height + 14}"/>'
        f'<line class=knee x1="{knee:.1f}" x2="{knee:.1f}" y1="14" y2="{height + 14}"/>'
        f'<polyline points="{line}"/>'
        f'<text class=side x="{left - 8}" y="20">{high:.2f}</text>'
        f'<text class=side x="{left - 8}" y="{height + 14}">{low:.2f}</text>'
        f'<text x="{left}" y="{height + 32}">{first}</text><text x="{left + width}" y="{height + 32}">{last}</text>'
        f'<text x="{knee:.1f}" y="{height + 32}">{curve.knee}</text>'
        f'<text x="{left + width / 2}" y="{height + 52}">number of clusters k (left: mean silhouette)</text></svg>'
    )


def _measured(run: RunDocument, origin: Origin) -> Iterator[str]:
    rows = []
    for role, part in (("chosen on", run.data.select), ("evaluated on", run.data.eval)):
        counts = ", ".join(f"{name}: {count}" for name, count in part.class_counts.items())
        rows.append((role, [part.split, f"{part.examples:,}", counts]))
    yield _table("Texts", ["split", "number", "of each class"], rows)
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
    yield _table("Facts", [""], [(name, [str(value)]) for name, value in facts.items()])


def _trust(run: RunDocument, origin: Origin) -> Iterator[str]:
    verified = run.verified
    said = []
    if verified.mask_bites:
        said.append("Switching heads off changes what the model answers: the switches are connected.")
    if verified.mask_equals_surgery:
        said.append("The model with heads switched off and the model with the same heads cut out answer the same.")
    else:
        said.append("A layer keeps no head, so the heads can be switched off but not cut out; time was not measured.")
    split = run.data.eval.split
    said.append(
        f"The evaluation texts ({split}) did not choose the heads ({run.data.select.split}). "
        f"A budget that was picked by looking at {split} flatters its own figure a little."
    )
    opened = run.test_opened
    times = {0: "has not been opened", 1: "was opened once"}.get(opened, f"was opened {opened} times")
    said.append(f"The test split {times} for this model on that machine.")
    said += run.notices
    if origin.bundled:
        said.append("These figures ship with the package: they were measured on the machine named above.")
    yield f"<ul>{''.join(f'<li>{_safe(point)}</li>' for point in said)}</ul>"


def _again(run: RunDocument, origin: Origin) -> Iterator[str]:
    if run.settings.method == BY_HAND:
        yield "<p>The heads were chosen by hand, so take <code>head_mask.json</code> along.</p>"
    yield f"<p>In a terminal:</p><pre>{_safe(origin.command)}</pre>"
    yield f"<p>In Python:</p><pre>{_safe(origin.python)}</pre>"


_STYLE = """
:root{color-scheme:light dark;--ink:#1c2327;--faint:#5b666d;--rule:#d5dade;--ground:#fff;--accent:#0f6e84}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaec;--faint:#a3adb3;--rule:#3a4348;--ground:#101416;
--accent:#56b6cc}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
Arial,sans-serif}
main{max-width:46rem;margin:0 auto;padding:3rem 1.5rem 4rem}
h1{font-size:2.1rem;line-height:1.2;margin:.2rem 0 1rem}
h2{font-size:1.2rem;margin:2.6rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--rule)}
.kicker,.note,caption{color:var(--faint);font-size:.9rem}
.kicker{margin:0}
.lead{font-size:1.15rem}
svg{display:block;width:100%;height:auto;margin:1rem 0}
svg text{font-size:12px;text-anchor:middle;fill:var(--ink)}
svg text.side{text-anchor:end}
svg text.on{fill:#fff;font-weight:700;paint-order:stroke;stroke:#0006;stroke-width:2px}
svg text.off{fill:var(--faint)}
svg .rule{stroke:var(--rule)}
svg .whisker{stroke:var(--accent);stroke-width:3;stroke-linecap:round;opacity:.6}
svg circle{fill:var(--accent)}
svg polyline{fill:none;stroke:var(--accent);stroke-width:2}
svg .knee{stroke:var(--ink);stroke-dasharray:4 4}
.solid,.hollow{display:inline-block;width:.9em;height:.9em;border:2px solid var(--accent);border-radius:3px;
vertical-align:-.1em;margin-left:.4em}
.solid{background:var(--accent)}
table{border-collapse:collapse;width:100%;margin:1rem 0;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.3rem}
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--rule);vertical-align:top;
overflow-wrap:anywhere;font-weight:400}
thead th{font-weight:600}
tbody th{width:34%;color:var(--faint)}
pre{background:color-mix(in srgb,var(--ink) 6%,transparent);padding:.9rem;border-radius:6px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:.85rem}
@media print{:root{color-scheme:light;--ink:#000;--faint:#444;--rule:#bbb;--ground:#fff;--accent:#0f6e84}
main{max-width:none;padding:0}section{break-inside:avoid-page}svg,table,pre{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
