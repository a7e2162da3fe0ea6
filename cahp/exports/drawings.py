"""Parts of a report: HTML tables, SVG figures and the style sheet. They need no script and load nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cahp.board.colours import hues, letters, striped
from cahp.outcomes import Outcomes, main_outcome
from cahp.values import Estimate, Floats, HeadMask, Ints
from cahp.words import capital, safe

_CELL, _GAP, _LEFT, _TOP = 26, 4, 74, 26
#: Most characters of a word in a narrow column.
_LONGEST_WORD = 16


@dataclass(frozen=True, eq=False)
class Curve:
    """The silhouette ``mss (K,)`` over the numbers of clusters ``ks (K,)``, and its knee (0: none)."""

    ks: Ints
    mss: Floats
    knee: int


def table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return a table with a name for every column and every row."""
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
    """Return the class of a cell whose words may break, because one is longer than a column, such as a digest."""
    return " class=long" if any(len(word) > _LONGEST_WORD for word in text.split()) else ""


def grid(mask: HeadMask, labels: Ints | None) -> str:
    """Draw a square for every head, solid where it is kept, in the colour of its cluster in ``labels (N,)``."""
    step = _CELL + _GAP
    width, height = _LEFT + mask.heads * step, _TOP + mask.layers * step
    rows = "; ".join(f"layer {layer} keeps {heads or 'none'}" for layer, heads in enumerate(mask.by_layer))
    drawn = [
        f'<svg class=grid viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="Grid of {mask.layers} layers and {mask.heads} heads: {safe(rows)}">'
    ]
    drawn += [f'<text x="{_LEFT + head * step + _CELL / 2}" y="16">{head}</text>' for head in range(mask.heads)]
    drawn += [
        f'<text class=side x="{_LEFT - 10}" y="{_TOP + layer * step + 17}">layer {layer}</text>'
        for layer in range(mask.layers)
    ]
    colours = None if labels is None else hues(labels)
    lined = np.zeros(mask.keep.size, dtype=np.bool_) if labels is None else striped(labels)
    for place, kept in enumerate(mask.keep.ravel().tolist()):
        layer, head = divmod(place, mask.heads)
        x, y = _LEFT + head * step, _TOP + layer * step
        colour, name, tip = "var(--accent)", "", f"layer {layer}, head {head}: {'kept' if kept else 'pruned'}"
        if labels is not None and colours is not None:
            colour, name = colours[labels[place]], letters(int(labels[place]))
            tip += f", cluster {name}"
        drawn.append(
            f'<g><title>{tip}</title><rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" rx="4" '
            f'fill="{colour if kept else "none"}" stroke="{colour}" stroke-width="1.5" '
            f'stroke-opacity="{1 if kept else 0.55}"'
            + (' stroke-dasharray="4 3"/>' if lined[place] and not kept else "/>")
            + (f'<path class=stripe transform="translate({x},{y})" d="{_STRIPES}"/>' if lined[place] and kept else "")
            + (f'<text class={"on" if kept else "off"} x="{x + _CELL / 2}" y="{y + 17}">{name}</text>' if name else "")
            + "</g>"
        )
    return "".join(drawn) + "</svg>"


#: Three lines across a square of ``_CELL``, from the lower left upwards.
_STRIPES = "M2,12L12,2M2,24L24,2M13,24L24,13"


def intervals(states: Mapping[str, Outcomes]) -> str:
    """Draw accuracies (without labels agreements) as dots with intervals, on an axis no longer than they need."""
    named = main_outcome(next(iter(states.values())))[0].name
    accuracies = {name: outcomes[named] for name, outcomes in states.items()}
    left, width, row = 110, 460, 34
    bottom = 10 + row * len(accuracies)
    alt = "; ".join(f"{name} {one.text} {one.interval}" for name, one in accuracies.items())
    low, high, step = axis([100 * end for one in accuracies.values() for end in (one.low, one.high)])

    def across(share: float) -> float:
        return left + width * (100 * share - low) / (high - low)

    drawn = [
        f'<svg viewBox="0 0 600 {bottom + 44}" style="max-width:600px" role="img" '
        f'aria-label="{capital(named)} with 95 % intervals: {safe(alt)}">'
    ]
    for tick in np.arange(low, high + step / 2, step):
        x = across(tick / 100)
        drawn.append(f'<line class=rule x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{bottom}"/>')
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 16}">{tick:g}</text>')
    drawn.append(f'<text x="{left + width / 2}" y="{bottom + 36}">{named} in %{_start_of(low)}</text>')
    for index, (name, one) in enumerate(accuracies.items()):
        y = 10 + row * index + row / 2
        drawn.append(f'<text class=side x="{left - 12}" y="{y + 4}">{safe(name)}</text>')
        drawn.append(
            f'<line class=whisker x1="{across(one.low):.1f}" x2="{across(one.high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{across(one.value):.1f}" cy="{y}" r="6"/>'
        )
    return "".join(drawn) + "</svg>"


def axis(values: Sequence[float], *, most: float = 100.0) -> tuple[float, float, float]:
    """Return the ends of an axis of ``values`` in 0..``most``, at round numbers, and its step; it has two at least."""
    known = [value for value in values if np.isfinite(value)] or [0, most]
    low, high = min(known), max(known)
    step = next(most * size / 100 for size in (1, 2, 5, 10, 25, 50) if (high - low) / (most * size / 100) <= 6)
    start = max(0.0, step * np.floor(low / step))
    end = min(most, max(step * np.ceil(high / step), start + 2 * step))
    return float(start), float(end), float(step)


def _start_of(low: float) -> str:
    """Return where an axis begins unless at 0, because without its zero it makes differences look large."""
    return "" if low == 0 else f", from {low:g}"


def by_budget(label: str, estimates: Mapping[int, Estimate], *, levels: Mapping[str, Estimate], at: int) -> str:
    """Draw an outcome by budget with intervals, and named levels; ``at`` is the budget of the report."""
    measured = {budget: one for budget, one in estimates.items() if np.isfinite(one.value)}
    share = next(iter(levels.values())).unit == "share"
    scale, unit = (100, "%") if share else (1, "nats")
    ends = [(scale * one.low, scale * one.high) for one in measured.values()]
    drawn = {f"{name} {level.text}": scale * level.value for name, level in levels.items()}
    values = [*(end for pair in ends for end in pair), *drawn.values()]
    lowest, highest = (pick(measured, key=lambda budget: measured[budget].value) for pick in (min, max))
    return _line_chart(
        {budget: scale * one.value for budget, one in measured.items()},
        alt=f"{capital(label)} at {len(measured)} budgets from {min(measured)} to {max(measured)} heads: "
        f"lowest {measured[lowest].text} at {lowest} heads, highest {measured[highest].text} at {highest} heads; "
        + ", ".join(drawn),
        names=("heads kept", f"{label} in {unit}"),
        scale=axis(values, most=100.0 if share else 10 ** float(np.ceil(np.log10(max(*values, 1e-3))))),
        ends=ends,
        levels=drawn,
        mark=at,
    )


def silhouette(curve: Curve) -> str:
    """Draw the silhouette over the numbers of clusters, its knee marked."""
    low, high = float(np.min(curve.mss)), float(np.max(curve.mss))
    knee = f"its knee is at {curve.knee} clusters" if curve.knee else "it has no knee"
    return _line_chart(
        dict(zip(curve.ks.tolist(), curve.mss.tolist(), strict=True)),
        alt=f"Silhouette from {low:.2f} at its lowest to {high:.2f}; {knee}",
        names=("number of clusters k", "mean silhouette"),
        scale=axis([low, high], most=1.0),
        mark=curve.knee or None,
    )


def _line_chart(
    points: Mapping[int, float],
    *,
    alt: str,
    names: tuple[str, str],
    scale: tuple[float, float, float],
    ends: Sequence[tuple[float, float]] = (),
    levels: Mapping[str, float] = {},
    mark: int | None,
) -> str:
    """Draw a line through ``points`` (y by x), a band between their ``ends``, named levels, and a mark at one x.

    ``names`` are those of both axes; ``scale`` is the start, the end and the step of the vertical one.
    """
    left, width, top, height = 60, 520, 14, 200
    bottom, right = top + height, left + width
    (low, high, step), first, last = scale, min(points), max(points)

    def across(x: float) -> float:
        return left + width * (x - first) / max(1, last - first)

    def down(y: float) -> float:
        return top + height * (high - y) / (high - low)

    def joined(pairs: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in pairs)

    drawn = [f'<svg viewBox="0 0 600 {bottom + 44}" style="max-width:600px" role="img" aria-label="{safe(alt)}">']
    if ends:
        upper = [(x, end) for x, (_, end) in zip(points, ends, strict=True)]
        lower = [(x, start) for x, (start, _) in zip(points, ends, strict=True)]
        drawn.append(f'<polygon class=band points="{joined([*upper, *reversed(lower)])}"/>')
    for tick in np.arange(low, high + step / 2, step):
        y = down(tick)
        drawn.append(f'<line class=rule x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class=side x="{left - 8}" y="{y + 4:.1f}">{tick:g}</text>')
    for name, level in levels.items():
        y = down(level)
        drawn.append(f'<line class=knee x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class=side x="{right}" y="{y - 5:.1f}">{safe(name)}</text>')
    drawn.append(f'<polyline points="{joined(points.items())}"/>')
    if mark is not None:
        drawn.append(f'<line class=mark x1="{across(mark):.1f}" x2="{across(mark):.1f}" y1="{top}" y2="{bottom}"/>')
    ticks = {first, last} if mark is None else {first, mark, last}
    drawn += [f'<text x="{across(tick):.1f}" y="{bottom + 18}">{tick}</text>' for tick in sorted(ticks)]
    drawn.append(
        f'<text x="{left + width / 2}" y="{bottom + 38}">{names[0]} (left: {names[1]}{_start_of(low)})</text></svg>'
    )
    return "".join(drawn)


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
