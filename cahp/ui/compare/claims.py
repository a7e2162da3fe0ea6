"""The paper's three claims and its premise, each with a figure, a verdict and its n."""

from __future__ import annotations

import json
import shlex
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
from cahp.comparison.sentences import method_label
from cahp.figures.claims import compression_figure, criticality_figure, premise_figure
from cahp.studies.premise import describe_result
from cahp.ui.compare.view import ComparisonView
from cahp.ui.frame import knee
from cahp.ui.parts import display
from cahp.ui.parts.display import cache_with, plain
from cahp.ui.session.explorer import Explorer

_NUMBER, _PREMISE = "Finds the number by itself", "Heads of one cluster are redundant"
_SHARE = r"\frac{\sum_{h\in\ell,\ h\text{ kept}}c_h}{\sum_{h\in\ell}c_h},\qquad c_h=\mathrm{KL}(p\,\|\,p_{-h})"
_INTERACTION = r"\mathrm{KL}_{-A-B}-\mathrm{KL}_{-A}-\mathrm{KL}_{-B}"


def draw(explorer: Explorer, results: SplitResults, view: ComparisonView) -> None:
    """Draw the section; ``results`` are those in the first outcome that was measured."""
    with st.container(key="compare-claims"):
        st.header("The paper's three claims and its premise", anchor=False)
        rivals = best_rivals(results, view.recovery)
        methods = tuple(name for name in (results.against, *rivals, RANDOM) if name in results.methods)
        # A sentence alone would leave half of the page empty.
        measured = results.document.criticality is not None
        first, second = st.columns(2, gap="medium") if measured else (st.container(), st.container())
        with first:
            _draw_compression(results, view.recovery, methods)
        with second:
            _draw_critical_heads(results, view.budget, methods)
        third, fourth = st.columns(2, gap="medium")
        with third:
            _draw_number(explorer, results)
        with fourth:
            _draw_premise(results)


def _draw_compression(results: SplitResults, recovery: str, methods: tuple[str, ...]) -> None:
    finding, dark = assess_compression(results, recovery), display.is_dark()
    if all(key[0] != recovery for key in results.means):
        st.markdown(f"**1. {COMPRESSION}: {finding.status}.** {finding.words}")
        return
    tests = [test for test in results.verdicts if test.recovery == recovery and test.method in methods]
    columns = ("method", "budget", "pp", "unit", "n", "seeds")
    display.show(
        cache_with(
            results,
            ("claim", recovery, methods, dark),
            lambda: compression_figure(results, recovery, methods, dark=dark),
        ),
        title=f"1. {COMPRESSION}: {finding.status}",
        help="Above: CAHP, the methods with the best mean at up to 20 % of the heads (shaded), and random selection, "
        "with 95 % intervals as bands. Below: the lead of CAHP over each of them, with 95 % intervals. The verdict is "
        "over all methods, on the area up to 20 % of the heads. Older comparisons have tests at single budgets only.",
        name="claim-compression",
        alt=finding.words,
        data={name: [getattr(test, name) for test in tests] for name in columns}
        | {name: [test.ci95[end] for test in tests] for end, name in enumerate(("low", "high"))},
    )
    st.markdown(plain(finding.words))


def _draw_critical_heads(results: SplitResults, budget: int, methods: tuple[str, ...]) -> None:
    finding, dark = assess_critical_heads(results, budget), display.is_dark()
    shares = kept_shares(results.document, budget)
    if not shares:
        st.markdown(f"**2. {CRITICAL}: {finding.status}.** {finding.words} A new `cahp compare` measures it.")
        return
    layers = [f"layer {layer}" for layer in range(results.document.model.layers)]
    rows = [(name, place, mean) for name in shares for place, mean in zip(layers, shares[name].means, strict=False)]
    display.show(
        criticality_figure(results, shares, methods, dark=dark),
        title=f"2. {CRITICAL}: {finding.status}",
        help="The criticality of a head is the KL divergence from the full model when this head alone is removed. Each "
        f"line is the share of a layer's criticality that a method keeps at {budget} heads, the mean over its masks. "
        "The band holds 95 % of the random masks. The middle third of the layers is shaded; a t test over seeds "
        f"compares {method_label(results.against)} with random selection there.",
        formula=_SHARE,
        name="claim-criticality",
        alt=finding.words,
        data={name: [row[at] for row in rows] for at, name in enumerate(("method", "layer", "share of criticality"))},
    )
    st.markdown(plain(finding.words))


def _draw_number(explorer: Explorer, results: SplitResults) -> None:
    """Draw the band of unstructured data if the model of the comparison is open and has a run."""
    model, run = results.document.model, explorer.results.run
    if run is None or run.model.sha256 != model.sha256 or explorer.clusters is None:
        st.markdown(
            f"**3. {_NUMBER}.** The Stability page compares the published rule with unstructured data, once "
            f"{plain(model.id)} is open and has a run."
        )
        return
    status, null = "not tested yet", explorer.results.null
    if null is not None:
        degree = explorer.settings.poly_degree
        stops = cache_with(null, degree, lambda: null.knee(degree))
        same = stops is not None and stops.low <= explorer.clusters.clustering.knee <= stops.high
        status = "not supported" if same else "supported"
    knee.draw(explorer, place="compare", title=f"3. {_NUMBER}: {status}")


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
    if document is None:
        st.markdown(f"**The premise: {_PREMISE.lower()}.** Not measured for {plain(model)}; this command measures it:")
        command = ("cahp", "premise", "--model", model[:200], "--data", results.document.data.id[:200])
        st.code(shlex.join(command), language="bash", wrap_lines=True)
        return
    words = f"{' '.join(describe_result(document))} {document['texts']:,} {document.get('unit', 'texts')}."
    interaction = document["interaction"]
    # Two redundant heads cover for each other: without both, a model loses more than without either added up.
    statuses = {"redundant": "supported", "less redundant": "not supported"}
    status = statuses.get(document.get("verdict", ""), "not resolved at this n")
    rows = [(name, interaction[name]["value"], *interaction[name]["ci95"]) for name in ("within", "between")]
    display.show(
        premise_figure(interaction, dark=display.is_dark()),
        title=f"{_PREMISE}: {status}",
        help="The premise of the paper. Points are the mean interaction of two heads: what removing both costs, beyond "
        "the sum of what removing each costs. Lines are 95 % intervals. Heads that replace each other interact more.",
        formula=_INTERACTION,
        name="claim-premise",
        alt=words,
        data={name: [row[at] for row in rows] for at, name in enumerate(("pairs", "interaction", "low", "high"))},
    )
    st.markdown(plain(words))
