"""The heads that methods keep: in which layers, in common to all, and in common to two methods."""

from __future__ import annotations

from collections.abc import Sequence

from cahp.comparison import SplitResults
from cahp.comparison.sentences import method_label
from cahp.comparison.split_results import mean_layer
from cahp.figures.comparison_heads import (
    by_depth,
    consensus_figure,
    layer_figure,
    mean_overlap,
    overlap_figure,
    overlap_table,
)
from cahp.ui.compare.view import ComparisonView
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with
from cahp.words import percent

_DEPTH = r"\bar\ell=\frac{\sum_{\ell}\ell\,k_\ell}{\sum_{\ell}k_\ell},\qquad \text{even spread: }\frac{L-1}{2}"
_JACCARD = (
    r"J(A,B)=\frac{|A\cap B|}{|A\cup B|},\qquad \mathbb{E}[J]=\sum_i P(i)\,\frac{i}{2k-i},\quad "
    r"P=\text{hypergeometric}(N,k,k)"
)


def draw_layers(results: SplitResults, view: ComparisonView) -> None:
    """Draw how many heads each method keeps in each layer."""
    shown, dark = by_depth(results, view.budget, view.methods), display.is_dark()
    if not shown:
        return
    layers = results.document.model.layers
    depths = {name: mean_layer(results.layers[name, view.budget]) for name in shown}
    figure = cache_with(
        results,
        ("layers", view.budget, view.methods, dark),
        lambda: layer_figure(results, view.budget, view.methods, dark=dark),
    )
    display.show(
        figure,
        title=_depth_title(depths, even=(layers - 1) / 2),
        help=(
            "Heads that each method keeps in each layer, the mean over its masks. The triangle is their mean layer, "
            "the dashed line that of an even spread; methods nearest the output come first. A method with **proximity "
            "bias** prefers heads near the output or the input because of their position: its row is dark at one end. "
            "The per-layer minimum applies to all methods."
        ),
        formula=_DEPTH,
        name="compare-layers",
        alt=" ".join(f"{method_label(name)}: mean layer {depth:.1f}." for name, depth in depths.items()),
        data={
            "method": shown,
            "mean layer": list(depths.values()),
            **{
                f"layer {layer}": [results.layers[name, view.budget][layer] for name in shown]
                for layer in range(layers)
            },
        },
    )


def _depth_title(depths: dict[str, float], *, even: float) -> str:
    last, first = max(depths, key=lambda name: depths[name]), min(depths, key=lambda name: depths[name])
    if len(depths) == 1:
        return f"{method_label(last)} keeps heads of mean layer {depths[last]:.1f}; an even spread has {even:.1f}"
    if depths[last] - depths[first] < 0.05:
        return f"All keep heads of mean layer {depths[last]:.1f}; an even spread has {even:.1f}"
    return (
        f"{method_label(last)} keeps heads nearest the output (mean layer {depths[last]:.1f}), "
        f"{method_label(first)} nearest the input ({depths[first]:.1f}); an even spread has {even:.1f}"
    )


def draw_consensus(results: SplitResults, view: ComparisonView) -> None:
    """Draw the heads that all methods keep, and that none keeps."""
    consensus = results.consensus.get(view.budget)
    if consensus is None:
        return
    model, dark = results.document.model, display.is_dark()
    all_keep, none_keeps = set(consensus.everybody), set(consensus.nobody)
    places = [(layer, head) for layer in range(model.layers) for head in range(model.heads)]
    count = len(all_keep)
    heads = "No head is" if not count else "1 head is" if count == 1 else f"{count} heads are"
    display.show(
        cache_with(results, ("consensus", view.budget, dark), lambda: consensus_figure(consensus, dark=dark)),
        title=f"{heads} kept by all {consensus.methods} methods, {len(none_keeps)} of {results.total} by none",
        help=(
            "Each cell is a head; its number is the share of methods that keep it, in per cent, over all their masks. "
            "**Framed**: every method keeps it with every seed. **×**: none ever does. Random selection is left out, "
            "and the filter of methods does not apply."
        ),
        name="compare-consensus",
        alt=f"Kept by all: {_list_heads(consensus.everybody)}. Kept by none: {_list_heads(consensus.nobody)}.",
        data={
            "layer": [layer for layer, _ in places],
            "head": [head for _, head in places],
            "share of methods": [float(consensus.share[layer][head]) for layer, head in places],
            "kept by": ["all" if place in all_keep else "none" if place in none_keeps else "some" for place in places],
        },
    )


def _list_heads(heads: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"layer {layer} head {head}" for layer, head in heads[:40]) or "none"


def draw_overlap(results: SplitResults, view: ComparisonView) -> None:
    """Draw the overlap of every two methods."""
    (methods, values), dark = overlap_table(results, view.budget, view.methods), display.is_dark()
    mean = mean_overlap(values)
    if mean is None:
        return
    random = results.random_overlap[view.budget]
    figure = cache_with(
        results,
        ("overlaps", view.budget, view.methods, dark),
        lambda: overlap_figure(results, view.budget, view.methods, dark=dark),
    )
    display.show(
        figure,
        title=f"Two methods share {percent(mean, 0)} of their heads on average; random selection {percent(random, 0)}",
        help=(
            "The Jaccard index: heads that both methods keep, divided by heads that at least one keeps, for masks of "
            f"the same seed, mean over seeds. At {view.budget} of {results.total} heads, two random masks share "
            f"{random:.2f} on average: the colour scale starts there, and ↓ marks less. The diagonal compares a method "
            "with itself with another seed. Empty cells were not measured."
        ),
        formula=_JACCARD,
        name="compare-overlap",
        alt=" ".join(
            f"{method_label(method)} and {method_label(other)}: {value:.2f}."
            for row, method in enumerate(methods[:12])
            for column, other in enumerate(methods[:12])
            if row <= column and (value := values[row][column]) is not None
        ),
        data={
            "method": [method for method in methods for _ in methods],
            "other": [other for _ in methods for other in methods],
            "overlap": [value for row in values for value in row],
            "random selection": [random] * len(methods) ** 2,
        },
    )
