"""Parts of a report: the grid of heads as SVG, and the style sheet. They need no script and load nothing."""

from cahp.board.colourings import mark_clusters
from cahp.values import HeadMask, Ints
from cahp.words import safe

#: Between two squares of the grid, and its margins with the numbers of layers and heads.
_STEP = 30
_LEFT = 74
_TOP = 26
#: The word, the class of the letter, and the opacity of the square of a head, by whether it is kept.
_STATES = {True: ("kept", "on", 1), False: ("pruned", "off", 0.2)}


def grid(mask: HeadMask, labels: Ints | None, families: Ints | None = None, *, unit: str = "head") -> str:
    """Draw a square for every head, solid where it is kept, in the colour of its cluster in ``labels (N,)``.

    ``families (N,)`` give clusters the colours that they have at every budget (None: each cluster has its own).
    ``unit`` says what is kept as a whole: a head, or a group of them.
    """
    width = _LEFT + mask.heads * _STEP
    height = _TOP + mask.layers * _STEP
    rows = "; ".join(f"layer {layer} keeps {heads or 'none'}" for layer, heads in enumerate(mask.by_layer))
    drawn = [
        f'<svg class=grid viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="Grid of {mask.layers} layers and {mask.heads} {unit}s: {safe(rows)}">'
    ]
    drawn += [f'<text x="{_LEFT + head * _STEP + 13}" y="16">{head}</text>' for head in range(mask.heads)]
    drawn += [
        f'<text class=side x="{_LEFT - 10}" y="{_TOP + layer * _STEP + 17}">layer {layer}</text>'
        for layer in range(mask.layers)
    ]
    colours = ["var(--accent)"] * mask.keep.size
    names = [""] * mask.keep.size
    if labels is not None:
        marks = mark_clusters(labels, families)
        colours = list(marks.colours)
        names = list(marks.names)
    for place, kept in enumerate(mask.keep.ravel().tolist()):
        layer, head = divmod(place, mask.heads)
        x = _LEFT + head * _STEP
        y = _TOP + layer * _STEP
        state, style, opacity = _STATES[kept]
        drawn.append(
            f"<g><title>layer {layer}, {unit} {head}: {state} {names[place]}</title>"
            f'<rect x="{x + 1}" y="{y + 1}" width="24" height="24" rx="4" fill="{colours[place]}" '
            f'fill-opacity="{opacity}"/><text class={style} x="{x + 13}" y="{y + 17}">{names[place]}</text></g>'
        )
    return "".join(drawn) + "</svg>"


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
