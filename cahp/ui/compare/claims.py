"""The paper's three claims and its premise: a line with the verdict each, which opens its n and its figure."""

from __future__ import annotations

from functools import partial

import streamlit as st

from cahp import features
from cahp.comparison import SplitResults
from cahp.comparison.claims import (
    COMPRESSION,
    CRITICAL,
    RANDOM,
    assess_compression,
    assess_critical_heads,
    best_rivals,
    kept_shares,
)
from cahp.comparison.sentences import after, method_label
from cahp.figures.claims import criticality_figure, lead_figure
from cahp.ui.compare.view import ComparisonView
from cahp.ui.frame import knee
from cahp.ui.frame.claims import open_claim
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, plain
from cahp.ui.session.explorer import Explorer

_NUMBER = "Finds the number by itself"
_SHARE = r"\frac{\sum_{h\in\ell,\ h\text{ kept}}c_h}{\sum_{h\in\ell}c_h},\qquad c_h=\mathrm{KL}(p\,\|\,p_{-h})"


def draw(explorer: Explorer, results: SplitResults, view: ComparisonView) -> None:
    """Draw a line for each claim; ``results`` are those in the first outcome that was measured."""
    rivals = best_rivals(results, view.recovery)
    methods = tuple(name for name in (results.against, *rivals, RANDOM) if name in results.methods)
    with st.container(key="compare-claims", gap="small"):
        st.subheader("What the paper claims", anchor=False)
        claims = [
            partial(_draw_compression, results, view, methods),
            partial(_draw_critical_heads, results, view, methods),
            partial(_draw_number, explorer, results),
            *(partial(panel.draw, results) for panel in features.panels("Compare")),
        ]
        for start in range(0, len(claims), 2):
            row = claims[start : start + 2]
            for column, draw_claim in zip(st.columns(2, gap="small"), row, strict=False):
                with column:
                    draw_claim()


def _draw_compression(results: SplitResults, view: ComparisonView, methods: tuple[str, ...]) -> None:
    finding, dark = assess_compression(results, view.recovery), display.is_dark()
    panel = open_claim("compression", COMPRESSION, finding.status)
    if not panel.open:
        return
    tests = [test for test in results.verdicts if test.recovery == view.recovery and test.method in methods]
    with panel:
        st.markdown(plain(finding.words))
        if not tests:
            return
        columns = ("method", "budget", "pp", "unit", "n", "seeds")
        display.show(
            lead_figure(results, view.recovery, view.budget, methods, dark=dark),
            title=f"Lead of {method_label(results.against)} {after(view.recovery)}",
            help="The lead over the methods with the best mean at up to 20 % of the heads (shaded), and over random "
            "selection; bars are 95 % intervals. The verdict is over all methods, on the area up to 20 % of the "
            "heads. Older comparisons have tests at single budgets only.",
            name="claim-compression",
            alt=finding.words,
            data={name: [getattr(test, name) for test in tests] for name in columns}
            | {name: [test.ci95[end] for test in tests] for end, name in enumerate(("low", "high"))},
        )
        st.caption(_describe_drawn(results, methods))


def _draw_critical_heads(results: SplitResults, view: ComparisonView, methods: tuple[str, ...]) -> None:
    finding = assess_critical_heads(results, view.budget)
    panel = open_claim("criticality", CRITICAL, finding.status)
    if not panel.open:
        return
    shares = kept_shares(results.document, view.budget)
    layers = [f"layer {layer}" for layer in range(results.document.model.layers)]
    rows = [(name, place, mean) for name in shares for place, mean in zip(layers, shares[name].means, strict=False)]
    with panel:
        st.markdown(plain(finding.words))
        if not shares:
            st.markdown("A new `cahp compare` measures it.")
            return
        display.show(
            criticality_figure(results, shares, view.budget, methods, dark=display.is_dark()),
            title="Criticality kept in each layer",
            help="The criticality of a head is the KL divergence from the full model when this head alone is removed. "
            f"Each line is the share of a layer's criticality that a method keeps at {view.budget} heads, the mean "
            "over its masks. The band holds 95 % of the random masks. The middle third of the layers is shaded; a t "
            f"test over seeds compares {method_label(results.against)} with random selection there.",
            formula=_SHARE,
            name="claim-criticality",
            alt=finding.words,
            data={
                name: [row[at] for row in rows] for at, name in enumerate(("method", "layer", "share of criticality"))
            },
        )
        st.caption(_describe_drawn(results, methods))


def _describe_drawn(results: SplitResults, methods: tuple[str, ...]) -> str:
    """Tell which methods a chart of a claim leaves out."""
    rivals = len(set(methods) - {results.against, RANDOM})
    left_out = f"; {count} more are left out" if (count := len(results.methods) - len(methods)) else ""
    return f"Drawn: {method_label(results.against)}, the {rivals} best others and random selection{left_out}."


def _draw_number(explorer: Explorer, results: SplitResults) -> None:
    """Draw the band of unstructured data if the model of the comparison is open and has a run."""
    model, run, null = results.document.model, explorer.results.run, explorer.results.null
    clusters = explorer.clusters if run is not None and run.model.sha256 == model.sha256 else None
    status = "not tested yet"
    if clusters is not None and null is not None:
        degree = explorer.settings.poly_degree
        stops = cache_with(null, degree, lambda: null.knee(degree))
        same = stops is not None and stops.low <= clusters.clustering.knee <= stops.high
        status = "not supported" if same else "supported"
    panel = open_claim("number", _NUMBER, status)
    if not panel.open:
        return
    with panel:
        if clusters is not None:
            knee.draw(explorer, place="compare")
        else:
            st.markdown(
                "The Stability page compares the published rule with unstructured data, once "
                f"{plain(model.id)} is open and has a run."
            )
