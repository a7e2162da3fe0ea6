"""Power of the test of the premise: how often it finds duplicates that are planted among the measured pairs.

A duplicate takes the place of another head of its layer: it has the stratum and the cluster of the head that it copies,
interacts with all others as that head does, and with that head as two halves of a head do. The clusters are permuted
within strata before, so that nothing but the duplicates can be found: with none, the test should find something in at
most about 5 % of the draws. What counts as found is what counts as a verdict: see ``find_difference``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _premise_test import find_difference, permute_labels, resample_heads, stratify_pairs, weigh_means

from cahp.values import Floats, Ints

#: Draws of each number of duplicates, and the permutations and resamples of the test in each of them.
DRAWS = 20
_PERMUTATIONS = 499
_RESAMPLES = 499
#: A test can tell if it finds the largest number of duplicates in this share of the draws.
ENOUGH = 0.8
#: The interaction of two halves of a head where changes are small.
HALVES = 2.0


def measure_power(
    values: Floats,
    first: Ints,
    second: Ints,
    labels: Ints,
    strata: Ints,
    *,
    heads: int,
    halves: Floats,
    interval: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """Return the share of draws in which the test finds 0, a twelfth, a sixth and a quarter of the heads as duplicates.

    ``values (P,)`` are the interactions of the pairs ``first, second (P,)``, ``labels (N,)`` the clusters, ``strata
    (N,)`` those of ``compare_pairs``, and ``heads`` the number in a layer. Two halves interact as one of ``halves``.

    Only heads are drawn anew, because duplicates have no texts. Texts widen the ``interval`` of the measured difference
    by a factor, and those of the draws by the same one.
    """
    random = np.random.default_rng(seed)
    low, high = resample_heads(values, first, second, labels, strata, random=random, resamples=_RESAMPLES)
    widening = max(1.0, (interval[1] - interval[0]) / (high - low))
    table = np.full((len(labels), len(labels)), np.nan)
    table[first, second] = table[second, first] = values
    counts = [len(labels) * part // 12 for part in range(4)]
    found = []
    for count in counts:
        hits = 0
        for _ in range(DRAWS):
            difference = _test_once(table, labels, strata, count, heads, halves, widening, random)
            hits += find_difference(difference) == "redundant"
        found.append(hits / DRAWS)
    return {"duplicates": counts, "found": found, "draws": DRAWS, "halves": float(np.mean(halves))}


def _test_once(
    table: Floats,
    labels: Ints,
    strata: Ints,
    count: int,
    heads: int,
    halves: Floats,
    widening: float,
    random: np.random.Generator,
) -> dict[str, Any]:
    """Plant ``count`` duplicates among pairs ``table (N, N)``; return ``p`` and ``ci95`` of the difference."""
    permuted = np.empty_like(labels)
    permuted[np.argsort(strata, kind="stable")] = labels[np.lexsort((random.random(len(labels)), strata))]
    copied, replaced = draw_duplicates(len(labels), count, heads, random)
    source = np.arange(len(labels))
    source[replaced] = copied
    planted = table[source][:, source]
    planted[copied, replaced] = planted[replaced, copied] = random.choice(halves, count)
    permuted = permuted[source]
    strata = strata[source]
    first, second = np.triu_indices(len(labels), 1)
    known = np.isfinite(planted[first, second])
    first = first[known]
    second = second[known]
    values = planted[first, second]
    pairs = (values, first, second, permuted, strata)
    within = permuted[first] == permuted[second]
    difference = weigh_means(values, within, np.ones(len(first)), stratify_pairs(strata, first, second))[2]
    ends = np.array(resample_heads(*pairs, random=random, resamples=_RESAMPLES))
    p = permute_labels(*pairs, random=random, permutations=_PERMUTATIONS)
    return {"p": p, "ci95": difference + widening * (ends - difference)}


def draw_duplicates(total: int, count: int, heads: int, random: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw ``count`` heads to copy and as many of the same layers to replace; no head is drawn twice."""
    by_layer = random.permuted(np.arange(total).reshape(-1, heads), axis=1)
    pairs = by_layer[:, : heads // 2 * 2].reshape(-1, 2)
    chosen = random.permutation(len(pairs))[:count]
    return pairs[chosen, 0], pairs[chosen, 1]


def conclude_difference(difference: Mapping[str, Any], power: Mapping[str, Any]) -> str:
    """Return the verdict: what ``find_difference`` finds; else, that the test cannot tell if it misses duplicates."""
    verdict = find_difference(difference)
    if verdict is not None:
        return verdict
    if power["found"][-1] < ENOUGH:
        return "cannot tell"
    return "not significant"


def describe_power(power: Mapping[str, Any]) -> str:
    """Tell how often the test finds each number of duplicates, and what that means."""
    counts: Sequence[int] = power["duplicates"]
    shares = [f"{share * power['draws']:.0f} of {power['draws']} draws with {count}" for count, share in _pair(power)]
    enough = [count for count, share in _pair(power) if count and share >= ENOUGH]
    meaning = f"it would miss even {counts[-1]} duplicates in more than {100 * (1 - ENOUGH):.0f} % of draws"
    if enough:
        meaning = f"it would find {min(enough)} duplicates in at least {100 * ENOUGH:.0f} % of draws"
    return f"The test finds planted duplicates in {', '.join(shares)}: {meaning}."


def _pair(power: Mapping[str, Any]) -> list[tuple[int, float]]:
    return list(zip(power["duplicates"], power["found"], strict=True))
