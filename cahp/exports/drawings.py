"""Parts of a report: HTML tables, SVG figures, results and the style sheet. They need no script and load nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from cahp.board.budget_sweep import BudgetTable
from cahp.board.colours import mark_clusters
from cahp.models.costs import KvCache
from cahp.outcomes import HEADLINES, OUTCOMES, Outcomes, main_outcome
from cahp.recoveries import NONE, RECOVERIES, name_of_result
from cahp.run.document import RunDocument, StateOutcomes
from cahp.tasks.answers import name_units
from cahp.tasks.windows import WindowProtocol
from cahp.values import Estimate, HeadMask, Ints
from cahp.words import capital, duration, percent, rate, safe, times

_CELL, _GAP, _LEFT, _TOP = 26, 4, 74, 26
#: Most characters of a word in a narrow column.
_LONGEST_WORD = 16
_NAMES = {"full": "all heads", "pruned": "pruned", "recovered": "recovered"}


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


def grid(mask: HeadMask, labels: Ints | None, families: Ints | None = None) -> str:
    """Draw a square for every head, solid where it is kept, in the colour of its cluster in ``labels (N,)``.

    ``families (N,)`` give clusters the colours that they have at every budget (None: each cluster has its own).
    """
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
    marks = None if labels is None else mark_clusters(labels, families)
    for place, kept in enumerate(mask.keep.ravel().tolist()):
        layer, head = divmod(place, mask.heads)
        x, y = _LEFT + head * step, _TOP + layer * step
        colour, name, tip = "var(--accent)", "", f"layer {layer}, head {head}: {'kept' if kept else 'pruned'}"
        striped = marks is not None and bool(marks.striped[place])
        if marks is not None:
            colour, name = marks.colours[place], marks.names[place]
            tip += f", cluster {name}"
        drawn.append(
            f'<g><title>{tip}</title><rect x="{x + 1}" y="{y + 1}" width="{_CELL - 2}" height="{_CELL - 2}" rx="4" '
            f'fill="{colour}" fill-opacity="{1 if kept else 0.2}"/>'
            + (f'<path class=stripe transform="translate({x},{y})" d="{_STRIPES}"/>' if striped else "")
            + (f'<text class={"on" if kept else "off"} x="{x + _CELL / 2}" y="{y + 17}">{name}</text>' if name else "")
            + "</g>"
        )
    return "".join(drawn) + "</svg>"


#: Lines in two corners of a square of ``_CELL``, from the lower left upwards; the letter lies between them.
_STRIPES = "M2,6L6,2M2,11L11,2M20,24L24,20M15,24L24,15"


def axis(values: Sequence[float], *, most: float = 100.0) -> tuple[float, float, float]:
    """Return the ends of an axis of ``values`` in 0..``most``, at round numbers, and its step; it has two at least."""
    known = [value for value in values if np.isfinite(value)] or [0, most]
    low, high = min(known), max(known)
    step = next(most * size / 100 for size in (1, 2, 5, 10, 25, 50) if (high - low) / (most * size / 100) <= 6)
    start = max(0.0, step * np.floor(low / step))
    end = min(most, max(step * np.ceil(high / step), start + 2 * step))
    return float(start), float(end), float(step)


def by_budget(label: str, estimates: Mapping[int, Estimate], *, levels: Mapping[str, Estimate], at: int) -> str:
    """Draw an outcome by budget with intervals, and named levels; ``at`` is the budget of the report."""
    points = {budget: one for budget, one in estimates.items() if np.isfinite(one.value)}
    share = next(iter(levels.values())).unit == "share"
    scale, unit = (100, " in %") if share else (1, "" if next(iter(levels.values())).unit == "number" else " in nats")
    named = {f"{name} {level.text}": scale * level.value for name, level in levels.items()}
    values = [scale * end for one in points.values() for end in (one.low, one.high)] + list(named.values())
    most = 100.0 if share else 10 ** float(np.ceil(np.log10(max(*values, 1e-3))))
    lowest, highest = (pick(points, key=lambda budget: points[budget].value) for pick in (min, max))
    left, width, top, height = 60, 520, 14, 200
    bottom, right = top + height, left + width
    (low, high, step), first, last = axis(values, most=most), min(points), max(points)

    def across(budget: int) -> float:
        return left + width * (budget - first) / max(1, last - first)

    def down(value: float) -> float:
        return top + height * (high - value) / (high - low)

    def joined(pairs: Iterable[tuple[int, float]]) -> str:
        return " ".join(f"{across(budget):.1f},{down(scale * value):.1f}" for budget, value in pairs)

    alt = (
        f"{capital(label)} at {len(points)} budgets from {first} to {last} heads: lowest {points[lowest].text} at "
        f"{lowest} heads, highest {points[highest].text} at {highest} heads; {', '.join(named)}"
    )
    drawn = [f'<svg viewBox="0 0 600 {bottom + 44}" style="max-width:600px" role="img" aria-label="{safe(alt)}">']
    upper = [(budget, one.high) for budget, one in points.items()]
    lower = [(budget, one.low) for budget, one in points.items()]
    drawn.append(f'<polygon class=band points="{joined([*upper, *reversed(lower)])}"/>')
    for tick in np.arange(low, high + step / 2, step):
        y = down(tick)
        drawn.append(f'<line class=rule x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class=side x="{left - 8}" y="{y + 4:.1f}">{tick:g}</text>')
    for name, level in named.items():
        y = down(level)
        drawn.append(f'<line class=level x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text class=side x="{right}" y="{y - 5:.1f}">{safe(name)}</text>')
    drawn.append(f'<polyline points="{joined((budget, one.value) for budget, one in points.items())}"/>')
    drawn.append(f'<line class=mark x1="{across(at):.1f}" x2="{across(at):.1f}" y1="{top}" y2="{bottom}"/>')
    drawn += [f'<text x="{across(k):.1f}" y="{bottom + 18}">{k}</text>' for k in sorted({first, at, last})]
    # An axis without its zero makes differences look large.
    start = "" if low == 0 else f", from {low:g}"
    x = left + width / 2
    drawn.append(f'<text x="{x}" y="{bottom + 38}">heads kept (left: {label}{unit}{start})</text></svg>')
    return "".join(drawn)


# Results -----------------------------------------------------------------------------------------------------------


def figures(run: RunDocument) -> Iterator[str]:
    """Draw the outcomes on every split that was opened, and the cost."""
    yield from draw_outcomes("Quality", run.outcomes, run.protocol)
    if run.report is not None:
        yield from draw_outcomes(f"Quality on the {run.report.split} split", run.report.outcomes, run.protocol)
    if run.refit is not None:
        verdict = run.refit.verdict + ("" if run.refit.accepted else ", so nothing changed")
        yield f"<p class=note>The {run.refit.row.noun} was {verdict}: {safe(run.refit.reason)}.</p>"
    yield from _cost(run)


def draw_outcomes(caption: str, states: StateOutcomes, protocol: WindowProtocol | None = None) -> Iterator[str]:
    """Draw the outcomes of the full, the pruned and the recovered model as a table."""
    named = {_NAMES[state]: outcomes for state, outcomes in states.items()}
    counts = [main_outcome(outcomes)[1].n for outcomes in named.values()]
    unit = "texts" if protocol is None else name_units(protocol.documents)
    yield table(caption, list(named), [*_rows(named.values()), (capital(unit), [f"{n:,}" for n in counts])])


def _rows(columns: Iterable[Outcomes]) -> Iterator[tuple[str, list[str]]]:
    """A row for each outcome that was measured, with its interval where it has one."""
    columns = list(columns)
    for name, row in OUTCOMES.items():
        estimates = [outcomes.get(name) for outcomes in columns]
        if any(estimates):
            yield capital(row.row_label), ["" if one is None else one.text for one in estimates]
        if any(one is not None and one.ci95 for one in estimates):
            yield "95 % interval", ["" if one is None else one.interval for one in estimates]


def by_recovery(run: RunDocument, others: Mapping[str, Outcomes]) -> dict[str, Outcomes]:
    """Return the outcomes of the run's mask as pruned and after each recovery that was measured."""
    own = {"pruned": NONE.result, "recovered": name_of_result(run.settings.recover)}
    measured = {own[state]: outcomes for state, outcomes in run.outcomes.items() if state in own}
    return {**measured, **{name: outcomes for name, outcomes in others.items() if name not in measured}}


def recoveries(run: RunDocument, compared: Mapping[str, Outcomes]) -> Iterator[str]:
    """Draw the same heads after each recovery, the share of the loss it regained, and the gain of each step."""
    row, full = main_outcome(run.outcomes["full"])
    texts = "texts" if run.protocol is None else "windows"
    pruned = compared.get(NONE.result)
    lost = 0.0 if pruned is None else full.value - pruned[row.name].value
    regained = [
        "" if lost <= 0 or outcomes is pruned else percent(1 - (full.value - outcomes[row.name].value) / lost, 0)
        for outcomes in compared.values()
    ]
    rows = [*_rows(compared.values()), ("Share of the loss regained", regained)]
    if len(compared) > 1:
        yield table("The same heads after each recovery, on the same texts", list(compared), rows)
    if run.steps:
        gained = [step.gained for step in run.steps]
        rows = [
            *_rows(step.outcomes for step in run.steps),
            ("Change from the previous step", ["" if one is None else one.text for one in gained]),
            ("95 % interval of this", ["" if one is None else one.interval for one in gained]),
            (
                "Evaluation texts" if run.protocol is None else "n",
                [f"{step.outcomes[row.name].n:,}" for step in run.steps],
            ),
            (
                f"Training {texts}",
                ["" if step.examples is None else f"{step.examples:,}" for step in run.steps],
            ),
            ("Time", ["" if step.seconds is None else duration(step.seconds) for step in run.steps]),
            ("Accepted", [{None: "", True: "yes", False: "no"}[step.accepted] for step in run.steps]),
        ]
        yield table("Recovery step by step", [step.result for step in run.steps], rows)
    if run.distill is not None:
        distill = run.distill
        taken = "was accepted" if distill.accepted else "was rejected; nothing changed"
        yield f"<p class=note>Distillation on {distill.examples:,} {texts} {taken}: {safe(distill.reason)}.</p>"


def _cost(run: RunDocument) -> Iterator[str]:
    if run.kv_cache is not None:
        yield from _generation(run, run.kv_cache)
        return
    ratio, full, pruned = run.latency_ratio, run.cost.full, run.cost.pruned
    before, after = full.latency_ms, pruned.latency_ms
    if ratio is None or before is None or after is None:
        yield "<p>Time and size were not measured.</p>"
        return
    against = ratio.text if ratio.excludes(1) else "no measurable change"
    rows = [
        ("Time relative to all heads", ["1 ×", against]),
        ("95 % interval of this", ["", f"{ratio.interval}, n = {before.repeats} rounds"]),
        ("Time per batch, median", [f"{one.median:.1f} ms" for one in (before, after)]),
        ("95th percentile", [f"{one.p95:.1f} ms" for one in (before, after)]),
        ("Weights", [f"{(one.parameters or 0) / 1e6:.1f} M" for one in (full, pruned)]),
        ("Operations per text", [f"{(one.flops or 0) / 1e9:.2f} G" for one in (full, pruned)]),
    ]
    yield table("Cost", ["all heads", "pruned"], rows)
    share = "" if run.attention_share is None else percent(run.attention_share, 0)
    yield (
        f"<p class=note>A batch is {before.batch} texts of {before.length} tokens; {before.repeats} rounds, "
        f"alternating the models: {ratio.text} {ratio.interval}. Attention takes "
        f"{share} of the full model's time, which bounds what pruning heads can save.</p>"
    )


def _generation(run: RunDocument, cache: KvCache) -> Iterator[str]:
    """The cost of a causal language model: the memory of its cache, which is counted, and the speed of generation."""
    contexts = ("any" if tokens is None else f"{tokens:,}" for tokens in (cache.longest_full, cache.longest_pruned))
    yield table(
        "Cost",
        ["all heads", "pruned"],
        [
            ("KV cache per token", [f"{count:,} bytes" for count in (cache.full, cache.pruned)]),
            ("Relative to all heads", ["1 ×", times(cache.share)]),
            (f"Longest context in {cache.memory / 2**30:g} GiB, tokens", list(contexts)),
            *(
                [("Weights", [f"{(one.parameters or 0) / 1e6:.1f} M" for one in (run.cost.full, run.cost.pruned)])]
                if run.cost.full.parameters
                else []
            ),
        ],
    )
    most = "" if cache.shape.positions is None else f" The model reads at most {cache.shape.positions:,} tokens."
    share = "" if run.attention_weights is None else f" Attention is {percent(run.attention_weights)} of the weights"
    took = ""
    if run.attention_share is not None and run.speed is not None:
        took = (
            f" and {percent(run.attention_share, 0)} of the time of a prefill of {run.speed.prefill[0].context} tokens"
        )
    more = " of either. It takes more of the time of longer contexts" if took else ""
    bound = f"{share}{took}: pruning heads saves no more{more}." if share else ""
    yield (
        f"<p class=note>The cache holds keys and values in {cache.shape.width}-byte numbers. Its size is counted, not "
        f"measured.{most}{bound}</p>"
    )
    if run.speed is None:
        yield "<p>The speed of generation was not measured.</p>"
        return
    rows = [
        (
            f"{name} at {one.context:,} tokens",
            [rate(one.full), rate(one.pruned), f"{one.ratio.text} {one.ratio.interval}, n = {one.ratio.n} rounds"],
        )
        for name, points in (("Prefill", run.speed.prefill), ("Decode", run.speed.decode))
        for one in points
    ]
    yield table("Tokens per second", ["all heads", "pruned", "ratio of times"], rows)
    missing = ", ".join(run.speed.left_out)
    left_out = f" Not timed, for lack of time or memory: {missing}." if missing else ""
    yield (
        "<p class=note>Prefill reads a whole context; decode writes one token after it. The models were timed in turn; "
        f"intervals are of 95 %.{safe(left_out)}</p>"
    )


def budgets(run: RunDocument, swept: BudgetTable) -> Iterator[str]:
    """Draw each headline outcome at every measured budget, with levels of the full model and of the majority class."""
    full, majority = swept.full or {}, run.data.eval.most_frequent
    for head in HEADLINES:
        measured = swept.estimates(head.name)
        if len(measured) < 2 or head.name not in full:
            continue
        levels = {"all heads": full[head.name]}
        if head.needs_labels and majority is not None:
            levels["majority-class baseline"] = Estimate(majority, None, full[head.name].n, head.unit)
        yield (
            f"<p>{capital(head.label)} {RECOVERIES[swept.recover].after or NONE.result}, at "
            f"{len(measured)} of {len(swept.budgets)} budgets, with 95 % intervals (n = {full[head.name].n:,}).</p>"
        )
        yield by_budget(head.label, measured, levels=levels, at=run.budget.attained)


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
