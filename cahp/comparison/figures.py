"""Figures of a comparison as self-contained SVG files, without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cahp.comparison.sentences import after
from cahp.comparison.split_results import SplitResults
from cahp.outcomes import OUTCOMES
from cahp.words import capital, number, safe

#: Colours for all kinds of colour vision (Okabe and Ito 2008); further methods get dashes and hollow points.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a00")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_LEFT, _TOP, _WIDTH, _HEIGHT, _ROW = 64, 44, 520, 320, 19


def draw_figures(results: SplitResults) -> dict[str, str]:
    """Draw the outcome of the results against the number of heads after each recovery, by file name."""
    measured = {recovery: results.budgets_after(recovery) for recovery in results.recoveries}
    return {f"{results.outcome}-{name}.svg": _draw_curve(results, name, at) for name, at in measured.items() if at}


def _draw_curve(results: SplitResults, recovery: str, budgets: Sequence[int]) -> str:
    """Draw a line for each method, with its intervals and its name at the right."""
    lines = {
        name: [results.means[at] for budget in budgets if (at := (recovery, name, budget)) in results.means]
        for name in results.methods
    }
    lines = {name: means for name, means in lines.items() if means}
    full = results.full["none"]
    estimates = [results.estimate(mean) for means in lines.values() for mean in means]
    ends = [end for estimate in estimates for end in (estimate.low, estimate.high)]
    low, high = max(0.0, min(*ends, full) - 0.02), max(*ends, full) + 0.02
    share = OUTCOMES[results.outcome].unit == "share"
    high = min(1.0, high) if share else high
    several, right, key = len(budgets) > 1, _LEFT + _WIDTH, _LEFT + _WIDTH + 16

    def across(budget: int) -> float:
        part = (budget - budgets[0]) / (budgets[-1] - budgets[0]) if several else 0.5
        return _LEFT + 20 + (_WIDTH - 40) * part

    def down(value: float) -> float:
        return float(_TOP + _HEIGHT * (high - value) / (high - low))

    parts = []
    # Round numbers, about five of them.
    step = next((size for size in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / size <= 6), (high - low) / 5)
    for value in (tick * step for tick in range(math.ceil(low / step), math.floor(high / step) + 1)):
        y, text = down(value), f"{value * 100:.0f} %" if share else number(value, 2)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{text}</text>')
    parts += [f'<text class="mid" x="{across(k):.1f}" y="{_TOP + _HEIGHT + 20}">{k}</text>' for k in budgets]
    parts.append(f'<text class="mid" x="{_LEFT + _WIDTH / 2}" y="{_TOP + _HEIGHT + 42}">heads kept</text>')
    for place, (name, means) in enumerate(lines.items()):
        colour, dashes = _COLOURS[place % len(_COLOURS)], _DASHES[place // len(_COLOURS) % len(_DASHES)]
        fill = colour if place < len(_COLOURS) else "var(--ground)"
        # Intervals side by side, or they would hide each other.
        shift = (place - (len(lines) - 1) / 2) * (2.5 if several else 24.0)
        points = [(across(mean.budget) + shift, results.estimate(mean)) for mean in means]
        line = " ".join(f"{x:.1f},{down(estimate.value):.1f}" for x, estimate in points)
        parts.append(f'<g stroke="{colour}"><polyline points="{line}" stroke-dasharray="{dashes}"/>')
        parts += [
            f"<g><title>{safe(name)}, {mean.budget} heads: {estimate.text} {estimate.interval}</title>"
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{down(estimate.low):.1f}" y2="{down(estimate.high):.1f}" '
            f'opacity="0.5"/><circle cx="{x:.1f}" cy="{down(estimate.value):.1f}" r="3.5" fill="{fill}"/></g>'
            for mean, (x, estimate) in zip(means, points, strict=True)
        ]
        y = _TOP + 8 + _ROW * place
        parts.append(f'<polyline points="{key},{y} {key + 26},{y}" stroke-dasharray="{dashes}"/></g>')
        parts.append(f'<text x="{key + 34}" y="{y + 4}">{safe(name)}</text>')
    y = _TOP + 8 + _ROW * len(lines)
    parts.append(f'<line class="full" x1="{_LEFT}" x2="{right}" y1="{down(full):.1f}" y2="{down(full):.1f}"/>')
    parts.append(f'<line class="full" x1="{key}" x2="{key + 26}" y1="{y}" y2="{y}"/>')
    parts.append(f'<text x="{key + 34}" y="{y + 4}">all heads</text>')
    width, height = right + 210, max(_TOP + _HEIGHT + 60, y + 2 * _ROW)
    title = safe(f"{capital(OUTCOMES[results.outcome].label)} on {results.split}, {after(recovery)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{title}"><style>{_STYLE}</style><rect class="ground" width="100%" height="100%"/>'
        f'<text class="title" x="12" y="22">{title}</text>{"".join(parts)}</svg>\n'
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
