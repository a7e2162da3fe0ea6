"""The shipped tests of the premise in words: the verdict, and each finding with its interval and its n."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cahp.values import Estimate
from cahp.words import number, p_value, percent, span

#: The verdicts, in words.
VERDICTS = {
    "redundant": "heads of one cluster are more redundant than heads of different clusters",
    "less redundant": "heads of one cluster are less redundant than heads of different clusters",
    "not significant": "not significant",
}
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


def describe_correlation(correlation: Mapping[str, Any]) -> str:
    """Describe a rank correlation with its interval, such as ``0.63 (0.46 to 0.76)``."""
    low, high = correlation["ci95"]
    return f"{number(correlation['value'], 2)} ({span(low, high, 2)})"


def describe_control(control: Mapping[str, Any]) -> str:
    """Describe what the positive control found in sentences with the n of each number."""
    interaction = control["interaction"]
    difference = interaction["difference"]
    low, high = difference["ci95"]
    verb = "does not find"
    if difference["p"] <= 0.05 and low > 0:
        verb = "finds"
    divided = control["divided"]
    by_chance = ""
    if control["by_chance"] is not None:
        by_chance = f" (by chance {number(control['by_chance'])})"
    kept = control["kept"]
    return (
        f"Positive control: the test {verb} duplicates. {divided} heads were divided into two equal halves. "
        f"{control['in_one_cluster']} of {divided} pairs of halves share a cluster{by_chance}. Removing both halves "
        f"costs {number(interaction['within']['value'], 4)} nats "
        f"beyond the sum of both, removing two other heads of the same layers and of similar cost "
        f"{number(interaction['between']['value'], 4)}: difference {number(difference['value'], 4)} "
        f"({span(low, high, 4)}); {p_value(difference['p'], difference['permutations'])}, "
        f"n = {interaction['within']['n']:,} and {interaction['between']['n']:,} pairs. The salience of two halves "
        f"differs by at most {percent(control['salience_difference'])}. The mask keeps one half of {kept['one']} "
        f"heads, both of {kept['both']}, none of {kept['neither']}."
    )
