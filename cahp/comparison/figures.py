"""Figures of a comparison as self-contained SVG files, without scripts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from cahp.comparison.sentences import after
from cahp.comparison.split_results import SplitResults
from cahp.comparison.summary import Mean
from cahp.words import safe

#: Colours for all kinds of colour vision (Okabe and Ito 2008); further methods get dashes.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_LEFT, _TOP, _WIDTH, _HEIGHT, _ROW = 64, 44, 520, 320, 19


def draw_figures(results: SplitResults) -> dict[str, str]:
    """Draw accuracy against the number of heads after each recovery, and overlap at each budget, by file name."""
    drawn = {}
    for recovery in results.recoveries:
        means = [mean for (measured, _, _), mean in results.means.items() if measured == recovery]
        if means:
            drawn[f"accuracy-{recovery}.svg"] = _accuracy(means, results, recovery)
    for budget in sorted({budget for first, second, budget in results.overlap if first != second}):
        drawn[f"overlap-{budget}.svg"] = _overlap(results, budget)
    return drawn


def _style(place: int) -> tuple[str, str]:
    """Colour and dashes of the method at a place in the list."""
    return _COLOURS[place % len(_COLOURS)], _DASHES[place // len(_COLOURS) % len(_DASHES)]


def _accuracy(means: Sequence[Mean], results: SplitResults, recovery: str) -> str:
    full = results.full["none"]
    budgets = sorted({one.budget for one in means})
    drawn = [name for name in results.methods if any(one.method == name for one in means)]
    ends = [end for one in means for end in (one.accuracy.low, one.accuracy.high)]
    low, high = max(0.0, min(*ends, full) - 0.02), min(1.0, max(*ends, full) + 0.02)
    span = max(1, budgets[-1] - budgets[0])

    def across(budget: float) -> float:
        return _LEFT + 20 + (_WIDTH - 40) * ((budget - budgets[0]) / span if len(budgets) > 1 else 0.5)

    def down(share: float) -> float:
        return float(_TOP + _HEIGHT * (high - share) / (high - low))

    title = f"Accuracy on {results.split} {after(recovery)}"
    parts = [f'<text class="title" x="{_LEFT}" y="22">{safe(title)}</text>']
    # Round shares, about five of them.
    step = next((size for size in (0.01, 0.02, 0.05, 0.1) if (high - low) / size <= 6), 0.2)
    for tick in range(math.ceil(low / step), math.floor(high / step) + 1):
        share = tick * step
        parts.append(
            f'<line class="rule" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{down(share):.1f}" y2="{down(share):.1f}"/>'
        )
        parts.append(f'<text class="end" x="{_LEFT - 8}" y="{down(share) + 4:.1f}">{share * 100:.0f} %</text>')
    parts += [f'<text class="mid" x="{across(k):.1f}" y="{_TOP + _HEIGHT + 20}">{k}</text>' for k in budgets]
    parts.append(f'<text class="mid" x="{_LEFT + _WIDTH / 2}" y="{_TOP + _HEIGHT + 42}">heads kept</text>')
    parts.append(f'<line class="full" x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{down(full):.1f}" y2="{down(full):.1f}"/>')
    for place, method in enumerate(drawn):
        points = sorted((one for one in means if one.method == method), key=lambda one: one.budget)
        # Intervals side by side, or they would hide each other.
        shift = (place - (len(drawn) - 1) / 2) * (2.5 if len(budgets) > 1 else 24.0)
        parts += _line(place, points, lambda budget, shift=shift: across(budget) + shift, down)
        parts += _key(place, method)
    parts += _key(len(drawn), "all heads", full=True)
    height = max(_TOP + _HEIGHT + 60, _TOP + _ROW * (len(drawn) + 2))
    return _svg(_LEFT + _WIDTH + 210, height, title, parts)


def _line(place: int, points: Sequence[Mean], across: Any, down: Any) -> Iterator[str]:
    colour, dashes = _style(place)
    fill = colour if place < len(_COLOURS) else "var(--ground)"
    places = [(across(one.budget), down(one.accuracy.value)) for one in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield f'<polyline points="{line}" stroke="{colour}" stroke-dasharray="{dashes}"/>'
    for one, (x, y) in zip(points, places, strict=True):
        low, high = one.accuracy.low, one.accuracy.high
        tip = f"{one.method}, {one.budget} heads: {one.accuracy.value:.1%} [{low:.1%}, {high:.1%}]"
        yield (
            f'<g stroke="{colour}"><title>{safe(tip)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{down(low):.1f}" y2="{down(high):.1f}" opacity="0.5"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}"/></g>'
        )


def _key(place: int, name: str, *, full: bool = False) -> Iterator[str]:
    colour, dashes = _style(place)
    x, y = _LEFT + _WIDTH + 16, _TOP + 8 + _ROW * place
    how = 'class="full"' if full else f'stroke="{colour}" stroke-dasharray="{dashes}" stroke-width="2"'
    yield f'<line {how} x1="{x}" x2="{x + 26}" y1="{y}" y2="{y}"/>'
    yield f'<text x="{x + 34}" y="{y + 4}">{safe(name)}</text>'


def _overlap(results: SplitResults, budget: int) -> str:
    """Jaccard index of every pair of methods, on the diagonal of each method's own masks."""
    pairs = [pair for *pair, at in results.overlap if at == budget and pair[0] != pair[1]]
    methods = [name for name in results.methods if any(name in pair for pair in pairs)]
    random = results.random_overlap[budget]
    side, left, top = 36, 190, 150
    title = f"Heads in common at {budget} heads (Jaccard index; random selection {random:.2f})"
    parts = [f'<text class="title" x="12" y="22">{safe(title)}</text>']
    for row, first in enumerate(methods):
        y = top + side * row
        parts.append(f'<text class="end" x="{left - 8}" y="{y + 22}">{safe(first)}</text>')
        x = left + side * row + side / 2
        parts.append(f'<text transform="translate({x + 4} {top - 8}) rotate(-50)">{safe(first)}</text>')
        for column, second in enumerate(methods):
            value = results.overlap.get((min(first, second), max(first, second), budget))
            parts += _square(left + side * column, y, side, value, random, f"{first} and {second}")
    parts.append(
        f'<text x="12" y="{top + side * len(methods) + 24}">'
        "diagonal: one method with other seeds; blue: more than random selection</text>"
    )
    return _svg(left + side * len(methods) + 130, top + side * len(methods) + 40, title, parts)


def _square(x: float, y: float, side: int, value: float | None, random: float, pair: str) -> Iterator[str]:
    if value is None:
        return
    beyond = max(0.0, (value - random) / (1 - random)) if random < 1 else 0.0
    ink = "#fff" if beyond > 0.55 else "var(--ink)"
    yield (
        f"<g><title>{safe(pair)}: {value:.2f}</title>"
        f'<rect x="{x}" y="{y}" width="{side - 2}" height="{side - 2}" rx="3" fill="#0072b2" '
        f'fill-opacity="{0.06 + 0.94 * beyond:.2f}"/>'
        f'<text class="mid" x="{x + side / 2 - 1}" y="{y + 22}" style="fill:{ink}">{value:.2f}</text></g>'
    )


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{safe(title)}"><style>{_STYLE}</style>'
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


_STYLE = (
    "svg{--ink:#1c2327;--faint:#5b666d;--rule:#d5dade;--ground:#fff}"
    "@media (prefers-color-scheme:dark){svg{--ink:#e6eaec;--faint:#a3adb3;--rule:#3a4348;--ground:#101416}}"
    "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif;fill:var(--ink)}"
    ".title{font-size:15px;font-weight:600}.end{text-anchor:end}.mid{text-anchor:middle}"
    ".rule{stroke:var(--rule)}.ground{fill:var(--ground)}"
    ".full{stroke:var(--faint);stroke-width:1.5;stroke-dasharray:1 3}"
    "polyline{fill:none;stroke-width:2}"
)
