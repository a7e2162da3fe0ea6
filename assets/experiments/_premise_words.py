"""The tests of the premise in words: the verdict, each finding with its interval and its n, and what Compare shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _premise_power import describe_power

from cahp.values import ALPHA, Estimate
from cahp.words import capital, nats_digits, number, percent, span

#: The verdicts, in words.
VERDICTS = {
    "redundant": "heads of one cluster are more redundant than heads of different clusters",
    "less redundant": "heads of one cluster are less redundant than heads of different clusters",
    "not significant": "not significant",
    "cannot tell": "this test cannot tell",
}
#: The status of the claim by verdict. Two redundant heads cover for each other: without both, a model loses more than
#: without either added up.
_STATUSES = {
    "redundant": "supported",
    "less redundant": "not supported",
    "not significant": "not significant",
    "cannot tell": "cannot tell",
}
#: What a verdict on the premise means.
_FINDINGS = {
    "redundant": "Heads of one cluster replace each other more than heads of different clusters do",
    "less redundant": "Heads of one cluster replace each other less than heads of different clusters do",
}
#: The rows of the table of the premise: the part and the name in its document, and what it is.
_ROWS = (
    ("interaction", "within", "interaction of two heads, one cluster (duplicates: 2)"),
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
    """Return the verdict in words; without a finding with its number of pairs."""
    verdict = document["verdict"]
    if verdict in _FINDINGS:
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


def conclude(measures: Mapping[str, Any]) -> str:
    """Name the measure with the highest rank correlation for one head and for two, beside the distance of CAHP."""
    sentences = []
    for kind, removed, counted in (("alone", "one head", "heads"), ("pairs", "two heads", "pairs")):
        by_measure = {name: measure[kind] for name, measure in measures.items()}
        best = max(by_measure, key=lambda name: by_measure[name]["value"])
        own = by_measure["distance"]
        sentences.append(
            f"The cost of removing {removed} follows {MEASURES[best]} most: rank correlation "
            f"{describe_correlation(by_measure[best])}, n = {own['n']:,} {counted}."
        )
        if best != "distance":
            verdict = f"; the two intervals overlap (n = {own['n']:,})"
            if by_measure[best]["ci95"][0] > own["ci95"][1]:
                verdict = ""
            sentences.append(f"It follows the distance of CAHP less: {describe_correlation(own)}{verdict}.")
    return " ".join(sentences)


def describe_control(document: Mapping[str, Any]) -> str:
    """Describe the control of a test, in which heads were divided into halves."""
    control = document["control"]
    by_chance = ""
    if control["by_chance"] is not None:
        by_chance = f", by chance {number(control['by_chance'])}"
    interactions = control["interactions"]
    mean = sum(interactions) / len(interactions)
    kept = control["kept"]
    return (
        f"Positive control, {document['model']} with {control['divided']} divided heads: the clusters find the halves "
        f"({control['in_one_cluster']} of {control['divided']}{by_chance}). Two halves interact by {number(mean, 2)} "
        f"on average ({number(min(interactions), 2)} to {number(max(interactions), 2)}). The salience of two halves "
        f"differs by at most {percent(control['salience_difference'])}. The mask keeps one half of {kept['one']} "
        f"heads, both of {kept['both']}, none of {kept['neither']}."
    )


def describe_test(document: Mapping[str, Any]) -> str:
    """Describe the difference with its interval and p value, and what follows from both, in sentences."""
    difference = document["interaction"]["difference"]
    low, high = difference["ci95"]
    verdict = document["verdict"]
    found = "no significant difference"
    if verdict in _FINDINGS:
        found = f"pairs of one cluster interact {'more' if verdict == 'redundant' else 'less'}"
    sentence = (
        f"{capital(found)}: {number(difference['value'], 3)} [{number(low, 3)}, {number(high, 3)}], "
        f"{p_value(difference['p'], difference['permutations'])} by permutation of the clusters."
    )
    if verdict not in _FINDINGS and difference["p"] <= ALPHA:
        sentence += " The interval over heads and texts contains zero, so p alone is no finding."
    if verdict == "cannot tell":
        sentence += " This test cannot tell."
    return f"{sentence} {describe_power(document['power'])}"


def show(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Compare shows of a test: a status, and blocks."""
    finding = f"Heads of one cluster replace each other more than others do: {describe_verdict(document)}"
    rows = []
    for part, name, words in _ROWS:
        if name in document[part]:
            estimate = read_estimate(document[part][name])
            noun = "pairs" if part == "interaction" else "heads"
            rows.append([words, f"{estimate.text} ({estimate.span or 'no interval'})", f"{estimate.n:,} {noun}"])
    texts = [
        f"Removing one head costs {nats_of_one_head(document)} nats with its mean output in its place. Measured on "
        f"{document['texts']:,} {document['unit']} of {document['data']}.",
        describe_test(document),
    ]
    if document["control"] is not None:
        texts.append(describe_control(document))
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
