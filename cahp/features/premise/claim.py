"""The bundled tests of the premise as a claim: whether heads of one cluster are redundant, with n and intervals."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp import models
from cahp.features.premise.words import (
    MEASURES,
    describe_control,
    describe_correlation,
    describe_permutations,
    describe_verdict,
    read_estimate,
)
from cahp.show import Block, Claim, Line, Table, Text
from cahp.words import number

if TYPE_CHECKING:
    from cahp.comparison import ComparisonDocument

#: The status of the claim by verdict. Two redundant heads cover for each other: without both, a model loses more than
#: without either added up.
_STATUSES = {"redundant": "supported", "less redundant": "not supported", "not significant": "not significant"}
#: What a verdict on the premise means.
_FINDINGS = {
    "redundant": "Heads of one cluster replace each other more than heads of different clusters do",
    "less redundant": "Heads of one cluster replace each other less than heads of different clusters do",
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


def find_premise(comparison: ComparisonDocument) -> Claim:
    """Return the claim for the model and the data of a comparison."""
    model = comparison.model.id
    data = comparison.data.id
    title = "Premise: heads of one cluster are redundant"
    for file in sorted(premise_folder().glob("*.json")):
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if (document["model"], document["data"]) == (model, data):
            return Claim("premise", title, _STATUSES[document["verdict"]], partial(show_premise, document))
    command = shlex.join(("cahp", "experiment", "premise", "--model", model[:200], "--data", data[:200]))
    missing = Text(f"Not measured for {model[:200]} on {data[:200]}; this command measures it: {command}")
    return Claim("premise", title, "not measured", lambda: [missing])


def show_premise(document: Mapping[str, Any]) -> Iterator[Block]:
    """Yield what a test of the premise found."""
    finding = f"Heads of one cluster replace each other more than others do: {describe_verdict(document)}"
    yield Line(_FINDINGS.get(document["verdict"], finding))
    rows = []
    for part, name, words in _ROWS:
        estimate = read_estimate(document[part][name])
        noun = "heads"
        unit = ""
        if part == "interaction":
            noun = "pairs"
            unit = " nats"
        mean = f"{estimate.text}{unit} ({estimate.span or 'no interval'})"
        rows.append((words, mean, f"{estimate.n:,} {noun}"))
    yield Table("", ("measured", "mean (95 % interval)", "n"), rows, "premise")
    interaction = document["interaction"]
    yield Text(
        f"Removing one head costs {number(document['alone']['value'], 4)} nats. The difference has "
        f"{describe_permutations(interaction['difference'])}. Measured on {document['texts']:,} "
        f"{document['unit']} of {document['data']}."
    )
    control = read_control(document["model"])
    if control is not None:
        yield Text(describe_control(control))
    measures = document["measures"]
    rows = []
    for name, by_kind in measures.items():
        alone = describe_correlation(by_kind["alone"])
        rows.append((MEASURES[name], alone, describe_correlation(by_kind["pairs"])))
    title = "Rank correlation (Spearman) of a measure of redundancy with the KL divergence after removal"
    yield Table(title, ("measure", "one head", "two heads"), rows, "measures")
