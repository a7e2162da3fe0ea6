"""The tests of the premise in words: the verdict, each finding with its interval and its n, and what Compare shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cahp.values import Estimate
from cahp.words import nats_digits, number, percent, span

#: The verdicts, in words.
VERDICTS = {
    "redundant": "heads of one cluster are more redundant than heads of different clusters",
    "less redundant": "heads of one cluster are less redundant than heads of different clusters",
    "not significant": "not significant",
}
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
#: The measures by name, in words.
MEASURES: Mapping[str, str] = {
    "distance": "distance of CAHP",
    "attention": "distance of attention (Jensen-Shannon)",
    "maps": "correlation of mean attention maps",
    "outputs": "similarity of outputs (CKA)",
    "replaceability": "replaceability",
    "norm": "relative output norm",
}


def describe_verdict(document: Mapping[str, Any]) -> str:
    """Return the verdict in words; one that is not significant with its number of pairs."""
    verdict = document["verdict"]
    if verdict != "not significant":
        return VERDICTS[verdict]
    return f"{VERDICTS[verdict]} (n = {sum(document['pairs'].values()):,} pairs)"


def p_value(p: float, permutations: int) -> str:
    """Format the p value of a permutation test: a bound where its number of ``permutations`` allows none smaller.

    None is smaller than "p < 0.001".
    """
    if p < 0.001:
        return "p < 0.001"
    bound = "≤" if p <= 1 / (1 + permutations) else "="
    return f"p {bound} {number(p, 4)}"


def describe_permutations(difference: Mapping[str, Any]) -> str:
    """Return the p value of the difference between pairs in words."""
    permutations = difference["permutations"]
    return f"{p_value(difference['p'], permutations)} ({permutations:,} permutations of the clusters)"


def read_estimate(fields: Mapping[str, Any]) -> Estimate:
    """Read an estimate of a document."""
    ends = fields["ci95"]
    if ends is not None:
        ends = tuple(ends)
    return Estimate(fields["value"], ends, fields["n"], fields["unit"])


def nats_of_one_head(document: Mapping[str, Any]) -> str:
    """Return what removing one head costs, with four decimals or two significant digits."""
    value = document["alone"]["value"]
    return number(value, max(4, nats_digits(value)))


def describe_correlation(correlation: Mapping[str, Any]) -> str:
    """Describe a rank correlation with its interval, such as ``0.63 (0.46 to 0.76)``."""
    low, high = correlation["ci95"]
    return f"{number(correlation['value'], 2)} ({span(low, high, 2)})"


def describe_control(document: Mapping[str, Any]) -> str:
    """Describe what a test with divided heads found, in sentences with the n of each number.

    The word follows from the verdict of the test of the premise, not from a test of the pairs that are known.
    """
    control = document["control"]
    premise = document["interaction"]["difference"]
    verdict = f"finds them ({_describe_difference(premise)})"
    if document["verdict"] != "redundant":
        verdict = (
            f"misses them ({_describe_difference(premise)}): its power is low, so “not significant” does not speak "
            "against the premise"
        )
    divided = control["divided"]
    by_chance = ""
    if control["by_chance"] is not None:
        by_chance = f", by chance {number(control['by_chance'])}"
    pairs = control["interaction"]
    kept = control["kept"]
    return (
        f"Positive control, {document['model']}: the clusters find the halves ({control['in_one_cluster']} of "
        f"{divided}{by_chance}). The test of the premise {verdict}. A test of these pairs alone, which only a control "
        f"knows: removing both halves costs {number(pairs['within']['value'], 4)} nats beyond the sum of both, "
        f"removing two other heads of the same layers and of similar cost {number(pairs['between']['value'], 4)} "
        f"({_describe_difference(pairs['difference'])}, n = {pairs['within']['n']:,} and {pairs['between']['n']:,} "
        f"pairs). The salience of two halves differs by at most {percent(control['salience_difference'])}. The mask "
        f"keeps one half of {kept['one']} heads, both of {kept['both']}, none of {kept['neither']}."
    )


def _describe_difference(difference: Mapping[str, Any]) -> str:
    low, high = difference["ci95"]
    p = p_value(difference["p"], difference["permutations"])
    return f"difference {number(difference['value'], 4)} nats, {span(low, high, 4)}, {p}"


def show(document: Mapping[str, Any], control: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what Compare shows of a test: a status, and blocks.

    ``control`` is the document of a test with divided heads (None: there is none).
    """
    finding = f"Heads of one cluster replace each other more than others do: {describe_verdict(document)}"
    rows = []
    for part, name, words in _ROWS:
        if name in document[part]:
            estimate = read_estimate(document[part][name])
            noun, unit = ("pairs", " nats") if part == "interaction" else ("heads", "")
            mean = f"{estimate.text}{unit} ({estimate.span or 'no interval'})"
            rows.append([words, mean, f"{estimate.n:,} {noun}"])
    difference = document["interaction"]["difference"]
    texts = [
        f"Removing one head costs {nats_of_one_head(document)} nats. The difference has "
        f"{describe_permutations(difference)}. Measured on {document['texts']:,} {document['unit']} of "
        f"{document['data']}."
    ]
    if document["verdict"] == "not significant" and difference["p"] <= 0.05:
        less_or_more = "more" if difference["value"] > 0 else "less"
        texts.append(
            f"By permutation alone, pairs of one cluster interact {less_or_more}. The interval over heads and texts "
            "reaches zero, so there is no verdict."
        )
    if control is not None:
        texts.append(describe_control(control))
    measures = [
        [MEASURES[name], *(describe_correlation(by_kind[kind]) for kind in ("alone", "pairs"))]
        for name, by_kind in document["measures"].items()
    ]
    title = "Rank correlation (Spearman) of a measure of redundancy with the KL divergence after removal"
    return {
        "status": _STATUSES[document["verdict"]],
        "lines": [_FINDINGS.get(document["verdict"], finding)],
        "texts": texts,
        "tables": [
            {"title": "", "columns": ["measured", "mean (95 % interval)", "n"], "rows": rows, "name": "premise"},
            {"title": title, "columns": ["measure", "one head", "two heads"], "rows": measures, "name": "measures"},
        ],
    }
