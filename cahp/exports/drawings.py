"""What a report is drawn with: HTML tables, SVG figures, and the one style sheet; no scripts, nothing to load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cahp.board.colours import hues, letters, striped
from cahp.outcomes import Outcomes
from cahp.values import Floats, HeadMask, Ints
from cahp.words import percent, safe

_CELL, _GAP, _LEFT, _TOP = 26, 4, 74, 26
#: Characters of a word that a narrow column holds.
_LONGEST_WORD = 16


@dataclass(frozen=True, eq=False)
class Clusters:
    """Which heads are alike: ``labels (N,)``, and a colour (CSS) and a name for each cluster."""

    labels: Ints
    colours: Sequence[str]
    names: Sequence[str]
    #: Heads ``(N,)`` whose cluster has the colour of a larger one, which has no stripes.
    striped: Sequence[bool] = ()

    @classmethod
    def of(cls, labels: Ints) -> Clusters:
        """Those of ``labels (N,)``, with the colours, stripes and letters that they have everywhere."""
        names = [letters(cluster) for cluster in range(int(labels.max()) + 1)]
        return cls(labels, hues(labels), names, striped(labels).tolist())


@dataclass(frozen=True, eq=False)
class Curve:
    """The silhouette ``mss (K,)`` over the numbers of clusters ``ks (K,)``, and its knee."""

    ks: Ints
    mss: Floats
    knee: int


def table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """A table with a name for every column and every row."""
    head = "".join(f"<th scope=col>{safe(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><th scope=row{_breaks(name)}>{safe(name)}</th>"
        f"{''.join(f'<td{_breaks(cell)}>{safe(cell)}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    return (
        f"<table><caption>{safe(caption)}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _breaks(text: str) -> str:
    """Words stay whole, unless one is longer than any column: a digest, or somebody's own."""
    return " class=long" if any(len(word) > _LONGEST_WORD for word in text.split()) else ""


def grid(mask: HeadMask, clusters: Clusters | None) -> str:
    """A square for every head, solid where it is kept."""
    step = _CELL + _GAP
    width, height = _LEFT + mask.heads * step, _TOP + mask.layers * step
    rows = "; ".join(f"layer {layer} keeps {heads or 'none'}" for layer, heads in enumerate(mask.by_layer))
    drawn = [
        f'<svg class=grid viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="Grid of {mask.layers} layers and {mask.heads} heads: {safe(rows)}">'
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
    colour, name, lines, broken = "var(--accent)", "", "", ""
    if clusters is not None:
        cluster = int(clusters.labels[layer * mask.heads + head])
        colour, name = clusters.colours[cluster], clusters.names[cluster]
        if clusters.striped and clusters.striped[layer * mask.heads + head]:
            lines, broken = (_stripes(x, y), "") if kept else ("", ' stroke-dasharray="4 3"')
    tip = f"layer {layer}, head {head}: {'kept' if kept else 'removed'}{f', cluster {name}' if name else ''}"
    fill = colour if kept else "none"
    inside = f'<text class={"on" if kept else "off"} x="{x + _CELL / 2}" y="{y + 17}">{safe(name)}</text>'
    return (
        f'<g><title>{safe(tip)}</title><rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" '
        f'rx="4" fill="{safe(fill)}" stroke="{safe(colour)}" stroke-width="1.5" '
        f'stroke-opacity="{1 if kept else 0.55}"{broken}/>{lines}{inside if name else ""}</g>'
    )


def _stripes(x: int, y: int) -> str:
    """Three lines across a square, from its corner at the lower left upwards."""
    end = _CELL - 2
    ends = [((2, shift), (shift, 2)) for shift in (end // 2, end)] + [((end // 2 + 1, end), (end, end // 2 + 1))]
    return f'<path class=stripe d="{"".join(f"M{x + a},{y + b}L{x + c},{y + d}" for (a, b), (c, d) in ends)}"/>'


def intervals(found: Mapping[str, Outcomes]) -> str:
    """Draw accuracies as dots with their intervals, on an axis that is no longer than they need."""
    accuracies = {name: outcomes["accuracy"] for name, outcomes in found.items()}
    left, width, row = 110, 460, 34
    bottom = 10 + row * len(found)
    said = "; ".join(f"{name} {one.text} {one.interval}" for name, one in accuracies.items())
    low, high, step = axis([100 * end for one in accuracies.values() for end in (one.low, one.high)])

    def across(share: float) -> float:
        return left + width * (100 * share - low) / (high - low)

    drawn = [
        f'<svg viewBox="0 0 600 {bottom + 44}" style="max-width:600px" role="img" '
        f'aria-label="Accuracy with 95 % intervals: {safe(said)}">'
    ]
    for tick in np.arange(low, high + step / 2, step):
        x = across(tick / 100)
        drawn.append(f'<line class=rule x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{bottom}"/>')
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 16}">{tick:g}</text>')
    drawn.append(f'<text x="{left + width / 2}" y="{bottom + 36}">accuracy in %{_begins(low)}</text>')
    for index, (name, one) in enumerate(accuracies.items()):
        y = 10 + row * index + row / 2
        start, end = (across(share) for share in (one.low, one.high))
        drawn.append(f'<text class=side x="{left - 12}" y="{y + 4}">{safe(name)}</text>')
        drawn.append(f'<line class=whisker x1="{start:.1f}" x2="{end:.1f}" y1="{y}" y2="{y}"/>')
        drawn.append(f'<circle cx="{across(one.value):.1f}" cy="{y}" r="6"/>')
    return "".join(drawn) + "</svg>"


def axis(values: Sequence[float], *, least: float = 0.0, most: float = 100.0) -> tuple[float, float, float]:
    """Where an axis of ``values`` begins and ends, on round numbers, and its step; at least a few steps long."""
    known = [value for value in values if np.isfinite(value)] or [least, most]
    low, high = min(known), max(known)
    step = next(size for size in (1, 2, 5, 10, 25) if (high - low) / size <= 6)
    start = max(least, step * np.floor(low / step))
    end = min(most, max(step * np.ceil(high / step), start + 2 * step))
    return float(start), float(end), float(step)


def _begins(low: float) -> str:
    # An axis without its zero makes differences look large: whoever reads it should know.
    return "" if low == 0 else f", from {low:g}"


@dataclass(frozen=True)
class RightAt:
    """Right answers at a budget, a share, with the ends of its interval."""

    budget: int
    accuracy: float
    low: float
    high: float


def by_budget(points: Sequence[RightAt], *, full: float, chance: float | None, at: int) -> str:
    """Right answers over budgets with their intervals, beside those of all heads and of the most frequent class.

    ``at`` is the budget of the report.
    """
    left, width, height = 60, 520, 220
    ends = [100 * end for one in points for end in (one.low, one.high)]
    low, high, step = axis([*ends, 100 * full, *([] if chance is None else [100 * chance])])
    first, last = points[0].budget, points[-1].budget

    def across(budget: float) -> float:
        return left + width * (budget - first) / max(1, last - first)

    def down(share: float) -> float:
        return 14 + height * (high - 100 * share) / (high - low)

    measured = [one for one in points if np.isfinite(one.accuracy)]
    line = " ".join(f"{across(one.budget):.1f},{down(one.accuracy):.1f}" for one in measured)
    band = [f"{across(one.budget):.1f},{down(one.high):.1f}" for one in measured]
    band += [f"{across(one.budget):.1f},{down(one.low):.1f}" for one in reversed(measured)]
    worst = min(measured, key=lambda one: one.accuracy)
    said = (
        f"Right answers at {len(measured)} budgets from {first} to {last} heads: {percent(worst.accuracy)} at "
        f"{worst.budget} heads at least; all heads give {percent(full)}"
        + ("" if chance is None else f", answering always the most frequent class would give {percent(chance)}")
    )
    drawn = [
        f'<svg viewBox="0 0 600 {height + 60}" style="max-width:600px" role="img" aria-label="{safe(said)}">',
        f'<polygon class=band points="{" ".join(band)}"/>',
    ]
    for tick in np.arange(low, high + step / 2, step):
        y = down(tick / 100)
        drawn.append(f'<line class=rule x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class=side x="{left - 8}" y="{y + 4:.1f}">{tick:g}</text>')
    for level, name in ((full, "all heads"), (chance, "answering always the most frequent class:")):
        if level is not None:
            y = down(level)
            drawn.append(f'<line class=knee x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
            drawn.append(f'<text class=side x="{left + width}" y="{y - 5:.1f}">{name} {percent(level)}</text>')
    drawn.append(f'<polyline points="{line}"/>')
    x = across(at)
    drawn.append(f'<line class=mark x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{height + 14}"/>')
    drawn += [f'<text x="{across(tick):.1f}" y="{height + 32}">{tick}</text>' for tick in sorted({first, at, last})]
    drawn.append(
        f'<text x="{left + width / 2}" y="{height + 52}">heads kept (left: right answers in %{_begins(low)})</text>'
    )
    return "".join(drawn) + "</svg>"


def silhouette(curve: Curve) -> str:
    """The silhouette over the numbers of clusters, its knee marked."""
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
    return (
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


STYLE = """
:root{color-scheme:light dark;--ink:#1c2327;--faint:#5b666d;--rule:#d5dade;--ground:#fff;--accent:#0f6e84}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaec;--faint:#a3adb3;--rule:#3a4348;--ground:#101416;
--accent:#56b6cc}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
Arial,sans-serif}
main{max-width:46rem;margin:0 auto;padding:3rem 1.5rem 4rem}
h1,h2{text-wrap:balance;overflow-wrap:break-word;hyphens:none;break-after:avoid}
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
svg .mark{stroke:var(--ink)}
svg .band{fill:var(--accent);opacity:.16}
svg .stripe{stroke:#fff8;stroke-width:2;fill:none}
.solid,.hollow{display:inline-block;width:.9em;height:.9em;border:2px solid var(--faint);border-radius:3px;
vertical-align:-.1em;margin-left:.4em}
.solid{background:var(--faint)}
table{border-collapse:collapse;width:100%;margin:1rem 0;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.3rem}
th,td{text-align:left;padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--rule);vertical-align:top;
font-weight:400}
.long{overflow-wrap:anywhere}
@media(max-width:30rem){table{font-size:.85rem}th,td{padding-right:.5rem}}
@media(min-width:40rem){td,th{min-width:5.5em}}
thead th{font-weight:600;overflow-wrap:normal;hyphens:none}
@media(min-width:40rem){thead th{white-space:nowrap}}
tbody th{width:34%;color:var(--faint)}
pre{background:color-mix(in srgb,var(--ink) 6%,transparent);padding:.9rem;border-radius:6px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:.85rem}
@media print{:root{color-scheme:light;--ink:#000;--faint:#444;--rule:#bbb;--ground:#fff;--accent:#0f6e84}
main{max-width:none;padding:0}section{break-inside:avoid-page}svg,table,pre{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
