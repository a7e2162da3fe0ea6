"""The paper's three claims and its premise: a line with the verdict each, which opens its n and its figure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from cahp import models
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
from cahp.features.premise.measuring import describe_permutations
from cahp.features.premise.redundancy import MEASURES, conclude
from cahp.figures.claims import criticality_figure, lead_figure, measures_figure, premise_figure
from cahp.ui.compare.view import ComparisonView
from cahp.ui.frame import knee
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, plain
from cahp.ui.session.explorer import Explorer
from cahp.values import Estimate
from cahp.words import number

_NUMBER, _PREMISE = "Finds the number by itself", "Premise: heads of one cluster are redundant"
#: What a verdict on the premise means.
_FINDINGS = {
    "redundant": "Heads of one cluster replace each other more than heads of different clusters do.",
    "less redundant": "Heads of one cluster replace each other less than heads of different clusters do.",
}
#: The rows of the table of the premise: the part and the name in its document, and what it is.
_ROWS = (
    ("interaction", "within", "cost of removing two heads beyond the sum of both, one cluster"),
    ("interaction", "between", "the same, different clusters"),
    ("interaction", "difference", "difference of these two"),
    ("r2", "representative", "variance of a pruned head's output that its representative explains (R²)"),
    ("r2", "same_layer", "the same, a head of its layer"),
    ("r2", "random", "the same, a random head"),
)
_SHARE = r"\frac{\sum_{h\in\ell,\ h\text{ kept}}c_h}{\sum_{h\in\ell}c_h},\qquad c_h=\mathrm{KL}(p\,\|\,p_{-h})"
_INTERACTION = r"\mathrm{KL}_{-A-B}-\mathrm{KL}_{-A}-\mathrm{KL}_{-B}"


def draw(explorer: Explorer, results: SplitResults, view: ComparisonView) -> None:
    """Draw a line for each claim; ``results`` are those in the first outcome that was measured."""
    rivals = best_rivals(results, view.recovery)
    methods = tuple(name for name in (results.against, *rivals, RANDOM) if name in results.methods)
    with st.container(key="compare-claims", gap="small"):
        st.subheader("What the paper claims", anchor=False)
        for row in (
            (partial(_draw_compression, results, view, methods), partial(_draw_critical_heads, results, view, methods)),
            (partial(_draw_number, explorer, results), partial(_draw_premise, results)),
        ):
            for column, draw_claim in zip(st.columns(2, gap="small"), row, strict=True):
                with column:
                    draw_claim()


def _open(name: str, claim: str, status: str) -> Any:
    """Draw the line of a claim with its verdict; return the panel, which is filled once it is open."""
    key = f"claim-{name}"
    # A panel with another verdict would be another one, and closed.
    st.session_state[key] = st.session_state.get(key, False)
    return st.expander(f"{claim}: **{status}**", key=key, on_change="rerun")


def _draw_compression(results: SplitResults, view: ComparisonView, methods: tuple[str, ...]) -> None:
    finding, dark = assess_compression(results, view.recovery), display.is_dark()
    panel = _open("compression", COMPRESSION, finding.status)
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
    panel = _open("criticality", CRITICAL, finding.status)
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
    panel = _open("number", _NUMBER, status)
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


# The premise ---------------------------------------------------------------------------------------------------


def premise_folder() -> Path:
    """The folder of the bundled documents of ``cahp premise``."""
    return models.assets() / "premise"


def read_premise(model: str) -> dict[str, Any] | None:
    """Read the bundled document of ``cahp premise`` about a model; None if there is none."""
    for file in sorted(premise_folder().glob("*.json")):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and document.get("schema") == "cahp.premise/1" and document["model"] == model:
            return document
    return None


def _draw_premise(results: SplitResults) -> None:
    model = results.document.model.id
    document = read_premise(model)
    # Two redundant heads cover for each other: without both, a model loses more than without either added up.
    statuses = {"redundant": "supported", "less redundant": "not supported"}
    status = "not measured" if document is None else statuses.get(document.get("verdict", ""), "not resolved at this n")
    panel = _open("premise", _PREMISE, status)
    if not panel.open:
        return
    with panel:
        if document is None:
            st.markdown(f"Not measured for {plain(model)}; this command measures it:")
            command = ("cahp", "premise", "--model", model[:200], "--data", results.document.data.id[:200])
            st.code(shlex.join(command), language="bash", wrap_lines=True)
            return
        interaction, pairs = document["interaction"], document["pairs"]
        words = _FINDINGS.get(
            document.get("verdict", ""),
            f"Whether heads of one cluster replace each other more is not resolved with {sum(pairs.values()):,} pairs.",
        )
        rows = [(name, interaction[name]["value"], *interaction[name]["ci95"]) for name in ("within", "between")]
        st.markdown(plain(words))
        _draw_premise_table(document)
        display.show(
            premise_figure(interaction, dark=display.is_dark()),
            title="Interaction of two heads",
            help="The premise of the paper. Points are the mean interaction of two heads: what removing both costs, "
            "beyond the sum of what removing each costs. Lines are 95 % intervals. Heads that replace each other "
            "interact more.",
            formula=_INTERACTION,
            name="claim-premise",
            alt=words,
            data={name: [row[at] for row in rows] for at, name in enumerate(("pairs", "interaction", "low", "high"))},
        )
        if "measures" in document:
            _draw_measures(document["measures"])


def _draw_premise_table(document: Mapping[str, Any]) -> None:
    rows = []
    for part, name, words in _ROWS:
        fields = document[part][name]
        one = Estimate(fields["value"], tuple(fields["ci95"]), fields["n"], fields["unit"])
        noun, unit = ("pairs", " nats") if part == "interaction" else ("heads", "")
        rows.append(
            {"measured": words, "mean (95 % interval)": f"{one.text}{unit} ({one.span})", "n": f"{one.n:,} {noun}"}
        )
    st.table(rows, hide_index=True)
    st.caption(
        f"Removing one head costs {number(document['alone']['value'], 4)} nats. The difference has "
        f"{describe_permutations(document['interaction']['difference'])}. Measured on {document['texts']:,} "
        f"{document.get('unit', 'texts')}."
    )


def _draw_measures(measures: Mapping[str, Any]) -> None:
    rows = [
        (MEASURES[name], kind, one[kind]["value"], *one[kind]["ci95"]) for name, one in measures.items() for kind in one
    ]
    display.show(
        measures_figure(measures, dark=display.is_dark()),
        title="Six measures of redundancy, and the cost of removal",
        help="Does a measure call the heads redundant whose removal costs least? Points are rank correlations "
        "(Spearman) with the measured KL divergence without one head, and without two; 1 is the same order. Of one "
        "head, a measure of pairs is that of the head most like it. Lines are 95 % intervals over heads.",
        name="claim-measures",
        alt=conclude(measures),
        data={
            name: [row[at] for row in rows]
            for at, name in enumerate(("measure", "removed", "rank correlation", "low", "high"))
        },
    )
    st.caption(plain(conclude(measures)))
