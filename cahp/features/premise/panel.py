"""The premise of the paper on the page Compare: a line with the verdict, which opens its n and its figure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from cahp import models
from cahp.comparison import SplitResults
from cahp.features.premise.figure import measures_figure, premise_figure
from cahp.features.premise.words import (
    MEASURES,
    VERDICTS,
    conclude,
    describe_control,
    describe_permutations,
    describe_predictors,
    describe_verdict,
    read_estimate,
)
from cahp.ui.frame import Panel, open_claim
from cahp.ui.parts import display
from cahp.ui.parts.display import plain
from cahp.words import number

#: The status of the claim by verdict. Two redundant heads cover for each other: without both, a model loses more than
#: without either added up.
_STATUSES = {"redundant": "supported", "less redundant": "not supported"}
#: What a verdict on the premise means.
_FINDINGS = {
    "redundant": "Heads of one cluster replace each other more than heads of different clusters do.",
    "less redundant": "Heads of one cluster replace each other less than heads of different clusters do.",
}
#: The rows of the table of the premise: the part and the name in its document, and what it is.
_ROWS = (
    ("interaction", "within", "cost of removing two heads beyond the sum of both, one cluster"),
    ("interaction", "between", "the same, different clusters, heads of the same layers with similar costs"),
    ("interaction", "difference", "difference of these two"),
    ("r2", "representative", "variance of a pruned head's output that its representative explains (R²)"),
    ("r2", "same_layer", "the same, a head of its layer"),
    ("r2", "random", "the same, a random head"),
)
_INTERACTION = r"\mathrm{KL}_{-A-B}-\mathrm{KL}_{-A}-\mathrm{KL}_{-B}"


def premise_folder() -> Path:
    """The folder of the bundled tests of the premise."""
    return models.assets() / "premise"


def read_control(model: str) -> dict[str, Any] | None:
    """Read the bundled positive control of a built-in model; None if there is none."""
    file = premise_folder() / "control" / f"{model}.json"
    if not file.exists():
        return None
    control: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["control"]
    return control


def read_premise(model: str, data: str) -> dict[str, Any] | None:
    """Read the bundled test of the premise on a model and its data; None if there is none."""
    for file in sorted(premise_folder().glob("*.json")):
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if (document["model"], document["data"]) == (model, data):
            return document
    return None


def draw_premise(results: SplitResults) -> None:
    """Draw the line of the premise for the model of a comparison."""
    model = results.document.model.id
    document = read_premise(model, results.document.data.id)
    status = "not measured"
    if document is not None:
        status = _STATUSES.get(document["verdict"], VERDICTS["not significant"])
    panel = open_claim("premise", CLAIM.label, status)
    if not panel.open:
        return
    with panel:
        if document is None:
            data = results.document.data.id[:200]
            st.markdown(f"Not measured for {plain(model)} on {plain(data)}; this command measures it:")
            command = ("cahp", "experiment", "premise", "--model", model[:200], "--data", data)
            st.code(shlex.join(command), language="bash", wrap_lines=True)
            return
        interaction = document["interaction"]
        words = _FINDINGS.get(
            document["verdict"],
            f"Heads of one cluster replace each other more than others do: {describe_verdict(document)}.",
        )
        table: dict[str, list[Any]] = {"pairs": [], "interaction": [], "low": [], "high": []}
        for name in ("within", "between"):
            low, high = interaction[name]["ci95"]
            table["pairs"].append(name)
            table["interaction"].append(interaction[name]["value"])
            table["low"].append(low)
            table["high"].append(high)
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
            data=table,
        )
        control = read_control(model)
        if control is not None:
            st.caption(plain(describe_control(control)))
        _draw_measures(document["measures"])
        if "refitted" in document:
            st.caption(plain(describe_predictors(document["refitted"])))


def _draw_premise_table(document: Mapping[str, Any]) -> None:
    rows = []
    for part, name, words in _ROWS:
        estimate = read_estimate(document[part][name])
        noun = "heads"
        unit = ""
        if part == "interaction":
            noun = "pairs"
            unit = " nats"
        mean = f"{estimate.text}{unit} ({estimate.span or 'no interval'})"
        rows.append({"measured": words, "mean (95 % interval)": mean, "n": f"{estimate.n:,} {noun}"})
    st.table(rows, hide_index=True)
    st.caption(
        f"Removing one head costs {number(document['alone']['value'], 4)} nats. The difference has "
        f"{describe_permutations(document['interaction']['difference'])}. Measured on {document['texts']:,} "
        f"{document['unit']} of {plain(document['data'])}."
    )


def _draw_measures(measures: Mapping[str, Any]) -> None:
    table: dict[str, list[Any]] = {"measure": [], "removed": [], "rank correlation": [], "low": [], "high": []}
    for name, by_kind in measures.items():
        for kind, correlation in by_kind.items():
            low, high = correlation["ci95"]
            table["measure"].append(MEASURES[name])
            table["removed"].append(kind)
            table["rank correlation"].append(correlation["value"])
            table["low"].append(low)
            table["high"].append(high)
    display.show(
        measures_figure(measures, dark=display.is_dark()),
        title="Measures of redundancy, and the cost of removal",
        help="Does a measure call the heads redundant whose removal costs least? Points are rank correlations "
        "(Spearman) with the measured KL divergence without one head, and without two; 1 is the same order. For one "
        "head, a measure of pairs takes the most similar head. Lines are 95 % intervals over heads.",
        name="claim-measures",
        alt=conclude(measures),
        data=table,
    )
    st.caption(plain(conclude(measures)))


CLAIM = Panel("Premise: heads of one cluster are redundant", draw_premise, place=40)
