"""Which heads methods keep: where they lie, which all agree on, and what two methods have in common."""

from __future__ import annotations

from collections.abc import Sequence

from cahp.comparison import Reading
from cahp.comparison.reading import towards_output
from cahp.comparison.sentences import called
from cahp.figures.comparison_heads import (
    by_depth,
    consensus_figure,
    layer_figure,
    mean_overlap,
    overlap_figure,
    overlap_table,
)
from cahp.ui.compare.view import ComparisonView
from cahp.ui.parts import chart as charts
from cahp.ui.parts import theme
from cahp.ui.parts.once import once
from cahp.words import percent

_DEPTH = r"\bar\ell=\frac{\sum_{\ell}\ell\,k_\ell}{\sum_{\ell}k_\ell},\qquad \text{even spread: }\frac{L-1}{2}"
_JACCARD = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{2k-i},\quad "
    r"P=\text{hypergeometric}(N,k,k)"
)


def draw_layers(found: Reading, view: ComparisonView) -> None:
    """Draw how many heads each method keeps in each layer."""
    shown, dark = by_depth(found, view.budget, view.methods), theme.dark()
    if not shown:
        return
    depths = {name: towards_output(found.layers[name, view.budget]) for name in shown}
    charts.show(
        once(
            found,
            ("layers", view.budget, view.methods, dark),
            lambda: layer_figure(found, view.budget, view.methods, dark=dark),
        ),
        title=_depths(found, depths),
        help=(
            "Heads that each method keeps in each layer, the mean over its masks. The triangle is the mean layer of "
            "what it keeps, the dashed line where an even spread would put it; methods nearest the output are on top. "
            "**Proximity bias** is the claim that a score prefers heads because of where they sit, near the output or "
            "near the input, rather than for what they do: its row would be dark at one end. The floor of heads "
            "in each layer holds for all."
        ),
        formula=_DEPTH,
        name="compare-layers",
        alt=" ".join(f"{called(name)}: mean layer {depth:.1f}." for name, depth in depths.items()),
        data={
            "method": shown,
            "mean layer": list(depths.values()),
            **{
                f"layer {layer}": [found.layers[name, view.budget][layer] for name in shown]
                for layer in range(found.layers_of_model)
            },
        },
    )


def _depths(found: Reading, depths: dict[str, float]) -> str:
    even = (found.layers_of_model - 1) / 2
    first, last = max(depths, key=lambda name: depths[name]), min(depths, key=lambda name: depths[name])
    if len(depths) == 1:
        return f"{called(first)} keeps heads of mean layer {depths[first]:.1f}; an even spread has {even:.1f}"
    if depths[first] - depths[last] < 0.05:
        return f"All keep heads of mean layer {depths[first]:.1f}; an even spread has {even:.1f}"
    return (
        f"{called(first)} keeps heads nearest the output (mean layer {depths[first]:.1f}), "
        f"{called(last)} nearest the input ({depths[last]:.1f}); an even spread has {even:.1f}"
    )


def draw_consensus(found: Reading, view: ComparisonView) -> None:
    """Draw which heads all methods keep, and which none keeps."""
    consensus = found.consensus.get(view.budget)
    if consensus is None:
        return
    layers, heads, dark = found.layers_of_model, found.heads, theme.dark()
    everybody, nobody = set(consensus.everybody), set(consensus.nobody)
    places = [(layer, head) for layer in range(layers) for head in range(heads)]
    charts.show(
        once(found, ("consensus", view.budget, dark), lambda: consensus_figure(consensus, dark=dark)),
        title=(
            f"{_heads(len(everybody))} kept by all {consensus.methods} methods that choose, {len(nobody)} of "
            f"{found.total} by none"
        ),
        help=(
            "Each cell is a head; its number is the share of methods that keep it, in per cent, counted over all their "
            "masks. **Framed**: every method keeps it with every seed. **×**: none ever does. Methods of pure chance "
            "are left out, and the filter of methods does not change this chart."
        ),
        name="compare-consensus",
        alt=(f"Kept by all: {_places(consensus.everybody)}. Kept by none: {_places(consensus.nobody)}."),
        data={
            "layer": [layer for layer, _ in places],
            "head": [head for _, head in places],
            "share of methods": [float(consensus.share[place[0]][place[1]]) for place in places],
            "kept by": ["all" if place in everybody else "none" if place in nobody else "some" for place in places],
        },
    )


def _heads(count: int) -> str:
    return "No head is" if not count else "1 head is" if count == 1 else f"{count} heads are"


def _places(heads: Sequence[tuple[int, int]]) -> str:
    if not heads:
        return "none"
    return ", ".join(f"layer {layer} head {head}" for layer, head in heads[:40])


def draw_overlap(found: Reading, view: ComparisonView) -> None:
    """Draw what methods have in common, two by two."""
    (there, values), dark = overlap_table(found, view.budget, view.methods), theme.dark()
    mean = mean_overlap(values)
    if mean is None:
        return
    chance = found.chance[view.budget]
    charts.show(
        once(
            found,
            ("overlaps", view.budget, view.methods, dark),
            lambda: overlap_figure(found, view.budget, view.methods, dark=dark),
        ),
        title=(
            f"Two methods share {percent(mean, 0)} of their heads on average; random choices would share "
            f"{percent(chance, 0)}"
        ),
        help=(
            "The Jaccard index: heads that both keep, of those that at least one keeps, for masks of the same seed, "
            f"the mean over seeds. At {view.budget} of {found.total} heads two random sets share {chance:.2f} on "
            "average, exactly: the colour starts there, and ↓ marks less. The diagonal holds a method against itself "
            "with another seed: how much of a choice is the sample's. An empty cell was not measured."
        ),
        formula=_JACCARD,
        name="compare-overlap",
        alt=" ".join(
            f"{called(one)} and {called(other)}: {value:.2f}."
            for row, one in enumerate(there[:12])
            for column, other in enumerate(there[:12])
            if row <= column and (value := values[row][column]) is not None
        ),
        data={
            "method": [one for one in there for _ in there],
            "other": [other for _ in there for other in there],
            "overlap": [value for row in values for value in row],
            "by chance": [chance] * len(there) ** 2,
        },
    )
