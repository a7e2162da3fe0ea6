"""The paper's three claims and its premise: a line with the verdict each, which opens its n and its figure."""

from __future__ import annotations

from functools import partial
from typing import Any

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
from cahp.figures.comparison_heads import criticality_figure, lead_figure
from cahp.ui.compare.results import tests_as_table
from cahp.ui.compare.view import ComparisonView
from cahp.ui.frame.claims import open_claim
from cahp.ui.frame.selection import draw_knee
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
    finding = assess_compression(results, view.recovery)
    panel = open_claim("compression", COMPRESSION, finding.status)
    if not panel.open:
        return
    tests = [test for test in results.verdicts if test.recovery == view.recovery and test.method in methods]
    with panel:
        st.markdown(plain(finding.words))
        if not tests:
            return
        display.show(
            lead_figure(results, view.recovery, view.budget, methods, dark=display.is_dark()),
            title=f"Lead of {method_label(results.against)} {after(view.recovery)}",
            help="The lead over the methods with the best mean at up to 20 % of the heads (shaded), and over random "
            f"selection; bars are {tests[0].interval_name}s. The verdict is over all methods, on the area up to 20 % "
            "of the heads; after the refit it is the primary test.",
            name="claim-compression",
            alt=finding.words,
            data=tests_as_table(tests, ("method", "budget", "pp", "unit", "n", "seeds")),
        )
        st.caption(_describe_drawn(results, methods))


def _draw_critical_heads(results: SplitResults, view: ComparisonView, methods: tuple[str, ...]) -> None:
    finding = assess_critical_heads(results, view.budget)
    panel = open_claim("criticality", CRITICAL, finding.status)
    if not panel.open:
        return
    shares = kept_shares(results.document, view.budget)
    means = shares.drop(columns=["seed", "middle", "all"]).groupby("method", sort=False).mean().stack()
    data: dict[str, list[Any]] = {"method": means.index.get_level_values(0).tolist()}
    data["layer"] = [f"layer {layer}" for layer in means.index.get_level_values(1)]
    data["share of criticality"] = means.tolist()
    with panel:
        st.markdown(plain(finding.words))
        if shares.empty:
            st.markdown("A new `cahp compare` measures it.")
            return
        display.show(
            criticality_figure(results, shares, view.budget, methods, dark=display.is_dark()),
            title="Criticality kept in each layer",
            help="The criticality of a head is the KL divergence from the full model when this head alone is removed. "
            f"Each line is the share of a layer's criticality that a method keeps at {view.budget} heads, the mean "
            "over its masks. The band holds 95 % of the random masks. The middle third of the layers is shaded; t "
            f"tests over seeds compare {method_label(results.against)} with random selection and every other method "
            "there, with p corrected by Holm.",
            formula=_SHARE,
            name="claim-criticality",
            alt=finding.words,
            data=data,
        )
        st.caption(_describe_drawn(results, methods))


def _describe_drawn(results: SplitResults, methods: tuple[str, ...]) -> str:
    """Tell which methods a chart of a claim leaves out."""
    rivals = len(set(methods) - {results.against, RANDOM})
    others = f"the {rivals} best others"
    if rivals == 1:
        others = "the best other"
    words = f"Drawn: {method_label(results.against)}, {others} and random selection"
    left_out = len(results.methods) - len(methods)
    if left_out:
        words += f"; {left_out} more are left out"
    return f"{words}."


def _draw_number(explorer: Explorer, results: SplitResults) -> None:
    """Draw the band of unstructured data if the model of the comparison is open and has a run."""
    model = results.document.model
    run = explorer.results.run
    null = explorer.results.null
    clusters = None
    if run is not None and run.model.sha256 == model.sha256:
        clusters = explorer.clusters
    status = "not tested yet"
    if clusters is not None and null is not None:
        degree = explorer.settings.poly_degree
        stops = cache_with(null, degree, lambda: null.knee(degree))
        status = "supported"
        found = clusters.clustering.knee
        if not found or (stops is not None and stops.low <= found <= stops.high):
            # The rule names no number, or stops there without clusters, too.
            status = "not supported"
    panel = open_claim("number", _NUMBER, status)
    if not panel.open:
        return
    with panel:
        if clusters is not None:
            draw_knee(explorer, place="compare")
        else:
            st.markdown(
                "The Stability page compares the published rule with unstructured data, once "
                f"{plain(model.id)} is open and has a run."
            )
