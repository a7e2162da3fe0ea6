"""Parts of a report: SVG figures and the style sheet. They need no script and load nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from cahp.board.budget_sweep import BudgetTable
from cahp.board.colourings import mark_clusters
from cahp.outcomes import HEADLINES
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import RunDocument
from cahp.values import Estimate, HeadMask, Ints
from cahp.words import capital, safe

#: The grid of heads: the side of a square, the gap between two, and the margins with the numbers of layers and heads.
_CELL = 26
_GAP = 4
_LEFT = 74
_TOP = 26


def grid(mask: HeadMask, labels: Ints | None, families: Ints | None = None, *, unit: str = "head") -> str:
    """Draw a square for every head, solid where it is kept, in the colour of its cluster in ``labels (N,)``.

    ``families (N,)`` give clusters the colours that they have at every budget (None: each cluster has its own).
    ``unit`` says what is kept as a whole: a head, or a group of them.
    """
    step = _CELL + _GAP
    width = _LEFT + mask.heads * step
    height = _TOP + mask.layers * step
    rows = "; ".join(f"layer {layer} keeps {heads or 'none'}" for layer, heads in enumerate(mask.by_layer))
    drawn = [
        f'<svg class=grid viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="Grid of {mask.layers} layers and {mask.heads} {unit}s: {safe(rows)}">'
    ]
    drawn += [f'<text x="{_LEFT + head * step + _CELL / 2}" y="16">{head}</text>' for head in range(mask.heads)]
    drawn += [
        f'<text class=side x="{_LEFT - 10}" y="{_TOP + layer * step + 17}">layer {layer}</text>'
        for layer in range(mask.layers)
    ]
    marks = None
    if labels is not None:
        marks = mark_clusters(labels, families)
    for place, kept in enumerate(mask.keep.ravel().tolist()):
        layer, head = divmod(place, mask.heads)
        x = _LEFT + head * step
        y = _TOP + layer * step
        tip = f"layer {layer}, {unit} {head}: {_STATES[kept]}"
        colour = "var(--accent)"
        over = ""
        if marks is not None:
            colour = marks.colours[place]
            name = marks.names[place]
            tip += f", cluster {name}"
            if marks.striped[place]:
                over = f'<path class=stripe transform="translate({x},{y})" d="{_STRIPES}"/>'
            over += f'<text class={_TEXT_CLASSES[kept]} x="{x + _CELL / 2}" y="{y + 17}">{name}</text>'
        drawn.append(
            f'<g><title>{tip}</title><rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" rx="4" '
            f'fill="{colour}" fill-opacity="{_OPACITIES[kept]}"/>{over}</g>'
        )
    return "".join(drawn) + "</svg>"


#: Lines in two corners of a square of ``_CELL``, from the lower left upwards; the letter lies between them.
_STRIPES = "M2,6L6,2M2,11L11,2M20,24L24,20M15,24L24,15"
#: The word, the class of the letter, and the opacity of the square of a head, by whether it is kept.
_STATES = {True: "kept", False: "pruned"}
_TEXT_CLASSES = {True: "on", False: "off"}
_OPACITIES = {True: 1, False: 0.2}


def axis(values: Sequence[float], *, most: float = 100.0) -> tuple[float, float, float]:
    """Return the ends of an axis of ``values`` in 0..``most``, at round numbers, and its step; it has two at least."""
    known = [value for value in values if np.isfinite(value)] or [0, most]
    low = min(known)
    high = max(known)
    step = next(most * size / 100 for size in (1, 2, 5, 10, 25, 50) if (high - low) / (most * size / 100) <= 6)
    start = max(0.0, step * np.floor(low / step))
    end = min(most, max(step * np.ceil(high / step), start + 2 * step))
    return float(start), float(end), float(step)


def by_budget(
    label: str, estimates: Mapping[int, Estimate], *, levels: Mapping[str, Estimate], at: int, unit: str
) -> str:
    """Draw an outcome by budget, a number of ``unit``s, with intervals and named levels.

    ``at`` is the budget of the report.
    """
    points = {budget: estimate for budget, estimate in estimates.items() if np.isfinite(estimate.value)}
    measure = next(iter(levels.values())).unit
    measured_in = {"share": " in %", "number": ""}.get(measure, " in nats")
    scale = 1
    if measure == "share":
        scale = 100
    named = {f"{name} {level.text}": scale * level.value for name, level in levels.items()}
    values = [scale * end for estimate in points.values() for end in (estimate.low, estimate.high)]
    values += named.values()
    most = 100.0
    if measure != "share":
        most = 10 ** float(np.ceil(np.log10(max(*values, 1e-3))))
    lowest = min(points, key=lambda budget: points[budget].value)
    highest = max(points, key=lambda budget: points[budget].value)
    left = 60
    width = 520
    right = left + width
    top = 14
    height = 200
    bottom = top + height
    low, high, step = axis(values, most=most)
    first = min(points)
    last = max(points)

    def across(budget: int) -> float:
        return left + width * (budget - first) / max(1, last - first)

    def down(value: float) -> float:
        return top + height * (high - value) / (high - low)

    def joined(pairs: Iterable[tuple[int, float]]) -> str:
        return " ".join(f"{across(budget):.1f},{down(scale * value):.1f}" for budget, value in pairs)

    alt = (
        f"{capital(label)} at {len(points)} budgets from {first} to {last} {unit}s: lowest {points[lowest].text} at "
        f"{lowest} {unit}s, highest {points[highest].text} at {highest} {unit}s; {', '.join(named)}"
    )
    drawn = [f'<svg viewBox="0 0 600 {bottom + 44}" style="max-width:600px" role="img" aria-label="{safe(alt)}">']
    upper = [(budget, estimate.high) for budget, estimate in points.items()]
    lower = [(budget, estimate.low) for budget, estimate in points.items()]
    drawn.append(f'<polygon class=band points="{joined([*upper, *reversed(lower)])}"/>')
    for tick in np.arange(low, high + step / 2, step):
        y = down(tick)
        drawn.append(f'<line class=rule x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class=side x="{left - 8}" y="{y + 4:.1f}">{tick:g}</text>')
    for name, level in named.items():
        y = down(level)
        drawn.append(f'<line class=level x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class=side x="{right}" y="{y - 5:.1f}">{safe(name)}</text>')
    line = joined((budget, estimate.value) for budget, estimate in points.items())
    drawn.append(f'<polyline points="{line}"/>')
    drawn.append(f'<line class=mark x1="{across(at):.1f}" x2="{across(at):.1f}" y1="{top}" y2="{bottom}"/>')
    drawn += [f'<text x="{across(k):.1f}" y="{bottom + 18}">{k}</text>' for k in sorted({first, at, last})]
    # An axis without its zero makes differences look large.
    start = ""
    if low != 0:
        start = f", from {low:g}"
    x = left + width / 2
    drawn.append(f'<text x="{x}" y="{bottom + 38}">{unit}s kept (left: {label}{measured_in}{start})</text></svg>')
    return "".join(drawn)


def budgets(run: RunDocument, swept: BudgetTable) -> Iterator[str]:
    """Draw each headline outcome at every measured budget, with levels of the full model and of the majority class."""
    full = swept.full or {}
    majority = run.data.eval.most_frequent
    for head in HEADLINES:
        measured = swept.estimates(head.name)
        if len(measured) < 2 or head.name not in full:
            continue
        levels = {f"all {run.model.unit}s": full[head.name]}
        if head.needs_labels and majority is not None:
            levels["majority-class baseline"] = Estimate(majority, None, full[head.name].n, head.unit)
        yield (
            f"<p>{capital(head.label)} {RECOVERIES[swept.recover].after or NONE.result}, at "
            f"{len(measured)} of {len(swept.budgets)} budgets, with 95 % intervals (n = {full[head.name].n:,}).</p>"
        )
        yield by_budget(head.label, measured, levels=levels, at=run.budget.attained, unit=run.model.unit)


STYLE = """
:root{color-scheme:light dark;--ink:#1c2327;--faint:#5b666d;--rule:#d5dade;--ground:#fff;--accent:#0f6e84}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaec;--faint:#a3adb3;--rule:#3a4348;--ground:#101416;
--accent:#56b6cc}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 "CAHP Sans",system-ui,-apple-system,
"Segoe UI",Roboto,Arial,sans-serif}
main{max-width:46rem;margin:0 auto;padding:3rem 1.5rem 4rem}
h1,h2{text-wrap:balance;overflow-wrap:break-word;hyphens:none;break-after:avoid}
h1{font-size:2.1rem;line-height:1.2;margin:.2rem 0 1rem}
h2{font-size:1.2rem;margin:2.6rem 0 .6rem;padding-top:1rem;border-top:1px solid var(--rule)}
h2.details{font-size:1.7rem;border-top:3px solid var(--accent)}.details+section h2{border:0;margin-top:1rem;padding:0}
.kicker,.note,caption{color:var(--faint);font-size:.9rem}
.kicker{margin:0}
.lead{font-size:1.15rem}
svg{display:block;width:100%;height:auto;margin:1rem 0}
svg text{font-size:12px;text-anchor:middle;fill:var(--ink)}
svg text.side{text-anchor:end}
svg text.on{fill:#fff;font-weight:700;paint-order:stroke;stroke:#0006;stroke-width:2px}
svg text.off{fill:var(--ink)}
svg .rule{stroke:var(--rule)}
svg polyline{fill:none;stroke:var(--accent);stroke-width:2}
svg .level{stroke:var(--ink);stroke-dasharray:4 4}
svg .mark{stroke:var(--ink)}
svg .band{fill:var(--accent);opacity:.16}
svg .stripe{stroke:#fff8;stroke-width:2;fill:none}
.solid,.light{display:inline-block;width:.9em;height:.9em;border-radius:3px;background:var(--faint);
vertical-align:-.1em;margin-left:.4em}
.light{opacity:.3}
section:has(>table){overflow-x:auto}
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
