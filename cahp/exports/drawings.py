"""Parts of a report: HTML tables, SVG figures, results and the style sheet. They need no script and load nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar

import numpy as np

from cahp.board.budget_sweep import BudgetTable
from cahp.board.colourings import mark_clusters
from cahp.models.costs import KvCache
from cahp.outcomes import HEADLINES, OUTCOMES, Outcomes, main_outcome
from cahp.recoveries import NONE, RECOVERIES, name_of_state
from cahp.run.document import RunDocument, StateOutcomes
from cahp.run.recoveries import RecoveryStep
from cahp.tasks.answers import WindowProtocol
from cahp.values import Estimate, HeadMask, Ints
from cahp.words import ALL_HEADS, AS_PRUNED, capital, duration, percent, rate, safe, times

_Value = TypeVar("_Value")
#: The grid of heads: the side of a square, the gap between two, and the margins with the numbers of layers and heads.
_CELL = 26
_GAP = 4
_LEFT = 74
_TOP = 26
#: Most characters of a word in a narrow column.
_LONGEST_WORD = 16
_NAMES = {"full": ALL_HEADS, "pruned": AS_PRUNED, "recovered": "recovered"}


def table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return a table with a name for every column and every row."""
    head = "".join(f"<th scope=col>{safe(name)}</th>" for name in columns)
    body = "".join(_row(name, cells) for name, cells in rows)
    return (
        f"<table><caption>{safe(caption)}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(name: str, cells: Sequence[str]) -> str:
    columns = "".join(f"<td{_breaks(cell)}>{safe(cell)}</td>" for cell in cells)
    return f"<tr><th scope=row{_breaks(name)}>{safe(name)}</th>{columns}</tr>"


def _breaks(text: str) -> str:
    """Return the class of a cell whose words may break, because one is longer than a column, such as a digest."""
    if any(len(word) > _LONGEST_WORD for word in text.split()):
        return " class=long"
    return ""


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


# Results -----------------------------------------------------------------------------------------------------------


def figures(run: RunDocument) -> Iterator[str]:
    """Draw the outcomes on every split that was opened, and the cost."""
    yield from draw_outcomes("Quality", run.outcomes, run.protocol)
    if run.report is not None:
        yield from draw_outcomes(f"Quality on the {run.report.split} split", run.report.outcomes, run.protocol)
    if run.refit is not None:
        verdict = run.refit.verdict
        if not run.refit.accepted:
            verdict += ", so nothing changed"
        yield f"<p class=note>The {run.refit.row.noun} was {verdict}: {safe(run.refit.reason)}.</p>"
    yield from _cost(run)


def draw_outcomes(caption: str, states: StateOutcomes, protocol: WindowProtocol | None = None) -> Iterator[str]:
    """Draw the outcomes of the full, the pruned and the recovered model as a table."""
    named = {_NAMES[state]: outcomes for state, outcomes in states.items()}
    counts = [main_outcome(outcomes)[1].n for outcomes in named.values()]
    unit = "texts"
    if protocol is not None:
        unit = protocol.units
    yield table(caption, list(named), [*_rows(named.values()), (capital(unit), [f"{n:,}" for n in counts])])


def _rows(columns: Iterable[Outcomes]) -> Iterator[tuple[str, list[str]]]:
    """A row for each outcome that was measured, with its interval where it has one."""
    columns = list(columns)
    for name, row in OUTCOMES.items():
        estimates = [outcomes.get(name) for outcomes in columns]
        if any(estimates):
            yield capital(row.row_label), [_format_known(estimate, attrgetter("text")) for estimate in estimates]
        if any(estimate is not None and estimate.ci95 for estimate in estimates):
            yield "95 % interval", [_format_known(estimate, attrgetter("interval")) for estimate in estimates]


def _format_known(value: _Value | None, format_value: Callable[[_Value], str]) -> str:
    """Format a value, or return an empty text where it was not measured."""
    if value is None:
        return ""
    return format_value(value)


def by_recovery(run: RunDocument, others: Mapping[str, Outcomes]) -> dict[str, Outcomes]:
    """Return the outcomes of the run's mask as pruned and after each recovery that was measured."""
    own = {"pruned": AS_PRUNED, "recovered": name_of_state(run.settings.recover)}
    measured = {own[state]: outcomes for state, outcomes in run.outcomes.items() if state in own}
    for name, outcomes in others.items():
        measured.setdefault(name, outcomes)
    return measured


def recoveries(run: RunDocument, compared: Mapping[str, Outcomes]) -> Iterator[str]:
    """Draw the same heads after each recovery, the share of the loss it regained, and the gain of each step."""
    texts = "windows"
    if run.protocol is None:
        texts = "texts"
    if len(compared) > 1:
        rows = [*_rows(compared.values()), ("Share of the loss regained", _regained(run, compared))]
        yield table("The same heads after each recovery, on the same texts", list(compared), rows)
    if run.steps:
        yield table("Recovery step by step", [step.result for step in run.steps], _step_rows(run, run.steps, texts))
    if run.distill is not None:
        distill = run.distill
        taken = "was rejected; nothing changed"
        if distill.accepted:
            taken = "was accepted"
        yield f"<p class=note>Distillation on {distill.examples:,} {texts} {taken}: {safe(distill.reason)}.</p>"


def _regained(run: RunDocument, compared: Mapping[str, Outcomes]) -> list[str]:
    """Return the share of the pruning's loss that each recovery regained; empty for the pruned model itself."""
    row, full = main_outcome(run.outcomes["full"])
    shares = []
    for name, outcomes in compared.items():
        share = ""
        if name != NONE.result and NONE.result in compared:
            lost = full.value - compared[NONE.result][row.name].value
            if lost > 0:
                share = percent(1 - (full.value - outcomes[row.name].value) / lost, 0)
        shares.append(share)
    return shares


def _step_rows(run: RunDocument, steps: Sequence[RecoveryStep], texts: str) -> Iterator[tuple[str, list[str]]]:
    """A row for each outcome of the steps of a recovery, for the gain of each step, and for its cost."""
    yield from _rows(step.outcomes for step in steps)
    yield "Change from the previous step", [_format_known(step.gained, attrgetter("text")) for step in steps]
    yield "95 % interval of this", [_format_known(step.gained, attrgetter("interval")) for step in steps]
    main = main_outcome(run.outcomes["full"])[0].name
    label = "n"
    if run.protocol is None:
        label = "Evaluation texts"
    yield label, [f"{step.outcomes[main].n:,}" for step in steps]
    yield f"Training {texts}", [_format_known(step.examples, "{:,}".format) for step in steps]
    yield "Time", [_format_known(step.seconds, duration) for step in steps]
    yield "Accepted", [{None: "", True: "yes", False: "no"}[step.accepted] for step in steps]


def _cost(run: RunDocument) -> Iterator[str]:
    if run.kv_cache is not None:
        yield from _generation(run, run.kv_cache)
        return
    ratio = run.latency_ratio
    costs = (run.cost.full, run.cost.pruned)
    before = run.cost.full.latency_ms
    after = run.cost.pruned.latency_ms
    if ratio is None or before is None or after is None:
        yield "<p>Time and size were not measured.</p>"
        return
    against = "no measurable change"
    if ratio.excludes(1):
        against = ratio.text
    rows = [
        ("Time relative to all heads", ["1 ×", against]),
        ("95 % interval of this", ["", f"{ratio.interval}, n = {before.repeats} rounds"]),
        ("Time per batch, median", [f"{before.median:.1f} ms", f"{after.median:.1f} ms"]),
        ("95th percentile", [f"{before.p95:.1f} ms", f"{after.p95:.1f} ms"]),
        ("Weights", [f"{(cost.parameters or 0) / 1e6:.1f} M" for cost in costs]),
        ("Operations per text", [f"{(cost.flops or 0) / 1e9:.2f} G" for cost in costs]),
    ]
    yield table("Cost", ["all heads", "pruned"], rows)
    share = ""
    if run.attention_share is not None:
        share = percent(run.attention_share, 0)
    yield (
        f"<p class=note>A batch is {before.batch} texts of {before.length} tokens; {before.repeats} rounds, "
        f"alternating the models: {ratio.text} {ratio.interval}. Attention takes "
        f"{share} of the full model's time, which bounds what pruning heads can save.</p>"
    )


def _generation(run: RunDocument, cache: KvCache) -> Iterator[str]:
    """The cost of a causal language model: the memory of its cache, which is counted, and the speed of generation."""
    rows = [
        ("KV cache per token", [f"{count:,} bytes" for count in (cache.full, cache.pruned)]),
        ("Relative to all heads", ["1 ×", times(cache.share)]),
        (
            f"Longest context in {cache.memory / 2**30:g} GiB, tokens",
            [_describe_context(cache.longest_full), _describe_context(cache.longest_pruned)],
        ),
    ]
    if run.cost.full.parameters:
        costs = (run.cost.full, run.cost.pruned)
        rows.append(("Weights", [f"{(cost.parameters or 0) / 1e6:.1f} M" for cost in costs]))
    yield table("Cost", ["all heads", "pruned"], rows)
    most = ""
    if cache.shape.positions is not None:
        most = f" The model reads at most {cache.shape.positions:,} tokens."
    yield (
        f"<p class=note>The cache holds keys and values in {cache.shape.width}-byte numbers. Its size is counted, not "
        f"measured.{most}{_bound_of_savings(run)}</p>"
    )
    if run.speed is None:
        yield "<p>The speed of generation was not measured.</p>"
        return
    rows = []
    for name, points in (("Prefill", run.speed.prefill), ("Decode", run.speed.decode)):
        for point in points:
            ratio = f"{point.ratio.text} {point.ratio.interval}, n = {point.ratio.n} rounds"
            rows.append((f"{name} at {point.context:,} tokens", [rate(point.full), rate(point.pruned), ratio]))
    yield table("Tokens per second", ["all heads", "pruned", "ratio of times"], rows)
    left_out = ""
    if run.speed.left_out:
        left_out = f" Not timed, for lack of time or memory: {', '.join(run.speed.left_out)}."
    yield (
        "<p class=note>Prefill reads a whole context; decode writes one token after it. The models were timed in turn; "
        f"intervals are of 95 %.{safe(left_out)}</p>"
    )


def _describe_context(tokens: int | None) -> str:
    """Return the longest context of a cache (None: it has no limit)."""
    if tokens is None:
        return "any"
    return f"{tokens:,}"


def _bound_of_savings(run: RunDocument) -> str:
    """Return, as a sentence, what pruning heads of a language model saves at most; empty if it was not measured."""
    if run.attention_weights is None:
        return ""
    share = f" Attention is {percent(run.attention_weights)} of the weights"
    if run.attention_share is None or run.speed is None:
        return f"{share}: pruning heads saves no more."
    return (
        f"{share} and {percent(run.attention_share, 0)} of the time of a prefill of {run.speed.prefill[0].context} "
        "tokens: pruning heads saves no more of either. It takes more of the time of longer contexts."
    )


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
