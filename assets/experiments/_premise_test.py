"""The test of the premise: interactions of pairs of heads, within clusters against between clusters.

The interaction of a pair is ``KL(-A-B) - KL(-A) - KL(-B)``, divided by ``sqrt(KL(-A) KL(-B))``. Where changes are
small, it is 0 for heads whose effects have nothing to do with each other and 2 for duplicates, whatever they cost.

A stratum holds heads of the same layers whose removal costs about the same. Two heads of a layer are more often in one
cluster than two distant ones, and costly heads interact more. So a pair within a cluster is compared only with pairs of
different clusters whose heads come from the same two strata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cahp.values import ALPHA, Estimate, Floats, Ints, OptionError

#: Heads that cost less than this share of the mean count as if they cost that much, since their rounding errors do.
_LEAST = 1e-3
#: The fewest heads of a block of layers, which is divided into its cheaper and its costlier half.
_BLOCK = 12
_RESAMPLES = 2000
_PERMUTATIONS = 10_000


def scale_interactions(alone: Floats, joint: Floats, first: Ints, second: Ints) -> Floats:
    """Return the interaction ``(P,)`` of pairs from the costs ``alone (N,)`` of heads and ``joint (P,)`` of pairs."""
    costs = np.maximum(alone, _LEAST * alone.mean())
    return np.asarray((joint - alone[first] - alone[second]) / np.sqrt(costs[first] * costs[second]))


def stratify(costs: Floats, heads: int) -> Ints:
    """Return the stratum ``(N,)`` of each head: its block of layers, and whether its removal costs more than most.

    ``costs (N,)`` are those of removing each head alone, ``heads`` the number in a layer. A block is a layer or, in
    models with few heads, neighbouring layers with at least ``_BLOCK`` heads; the last takes the layers that are left.
    """
    layers = len(costs) // heads
    deep = -(-_BLOCK // heads)
    last = max(1, layers // deep) - 1
    blocks = np.repeat(np.minimum(np.arange(layers) // deep, last), heads)
    strata = 2 * blocks
    for block in range(last + 1):
        inside = np.flatnonzero(blocks == block)
        ascending = inside[np.argsort(costs[inside], kind="stable")]
        strata[ascending[len(inside) // 2 :]] += 1
    return np.asarray(strata, dtype=np.int64)


def stratify_pairs(strata: Ints, first: Ints, second: Ints) -> Ints:
    """Return the stratum ``(P,)`` of each pair: those of its two heads, in any order, numbered from 0."""
    low = np.minimum(strata[first], strata[second])
    high = np.maximum(strata[first], strata[second])
    _, numbers = np.unique(low * (strata.max() + 1) + high, return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)


def compare_pairs(
    alone: Floats,
    joint: Floats,
    first: Ints,
    second: Ints,
    labels: Ints,
    strata: Ints,
    *,
    sizes: Floats | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """Compare the interactions of pairs within clusters with those of pairs between clusters.

    ``alone (N, n)`` and ``joint (P, n)`` are the costs of heads and pairs on texts.

    Means are compared within the strata of the pairs and averaged over them, weighted by their pairs within clusters.
    ``strata (N,)`` are those of the heads. Documents of a language model have ``sizes (n,)``; see
    ``cahp.tasks.answers.sum_by_unit``. Intervals come from a bootstrap over heads and texts, because pairs share heads.
    The two-sided ``p`` of the difference comes from permuting the cluster ``labels (N,)`` over the heads of each
    stratum.

    Raises:
        OptionError: If there are too few pairs for an interval.
    """
    random = np.random.default_rng(seed)
    heads = len(labels)
    texts = alone.shape[1]
    if sizes is None:
        sizes = np.ones(texts)
    of_pair = stratify_pairs(strata, first, second)
    within = labels[first] == labels[second]
    by_pair = scale_interactions(alone.mean(axis=1), joint.mean(axis=1), first, second)
    equal = np.ones(len(first))
    means = weigh_means(by_pair, within, equal, of_pair)
    draws = np.empty((_RESAMPLES, 3))
    for draw in draws:
        weights = random.multinomial(heads, np.full(heads, 1 / heads))
        drawn = random.multinomial(texts, np.full(texts, 1 / texts))
        by_text = drawn / (drawn @ sizes)
        values = scale_interactions(alone @ by_text, joint @ by_text, first, second)
        draw[:] = weigh_means(values, within, weights[first] * weights[second], of_pair)
    draws = draws[np.isfinite(draws).all(axis=1)]
    if not len(draws):
        raise OptionError("too few pairs of heads to estimate an interval; raise --pairs")
    low, high = np.percentile(draws, [2.5, 97.5], axis=0).tolist()
    counts = count_compared(within, of_pair)
    result = {}
    for place, (name, n) in enumerate(counts.items()):
        result[name] = asdict(Estimate(float(means[place]), (low[place], high[place]), n, "number"))
    p = permute_labels(by_pair, first, second, labels, strata, random=random)
    result["difference"] |= {"p": p, "permutations": _PERMUTATIONS}
    return result


def resample_heads(
    by_pair: Floats,
    first: Ints,
    second: Ints,
    labels: Ints,
    strata: Ints,
    *,
    random: np.random.Generator,
    resamples: int,
) -> tuple[float, float]:
    """Return the interval of the difference of the pairs' means ``by_pair (P,)`` over heads alone, not over texts.

    It has no bounds where no draw has pairs of both kinds.
    """
    heads = len(labels)
    of_pair = stratify_pairs(strata, first, second)
    within = labels[first] == labels[second]
    draws = np.empty((resamples, 3))
    for draw in draws:
        weights = random.multinomial(heads, np.full(heads, 1 / heads))
        draw[:] = weigh_means(by_pair, within, weights[first] * weights[second], of_pair)
    differences = draws[np.isfinite(draws).all(axis=1), 2]
    if not len(differences):
        return -np.inf, np.inf
    low, high = np.percentile(differences, [2.5, 97.5]).tolist()
    return low, high


def find_difference(difference: Mapping[str, Any]) -> str | None:
    """Return what a difference with its ``p`` and ``ci95`` shows; None: nothing, by p or by the interval.

    The verdict and the power curve follow from this rule: p is at most 0.05, and the interval excludes zero.
    """
    low, high = difference["ci95"]
    if difference["p"] > ALPHA or low <= 0 <= high:
        return None
    if low > 0:
        return "redundant"
    return "less redundant"


def permute_labels(
    by_pair: Floats,
    first: Ints,
    second: Ints,
    labels: Ints,
    strata: Ints,
    *,
    random: np.random.Generator,
    permutations: int | None = None,
) -> float:
    """Return the two-sided p value of the difference of the pairs' means ``by_pair (P,)``; see ``compare_pairs``."""
    if permutations is None:
        permutations = _PERMUTATIONS
    of_pair = stratify_pairs(strata, first, second)
    equal = np.ones(len(first))
    smallest = abs(weigh_means(by_pair, labels[first] == labels[second], equal, of_pair)[2]) - 1e-12
    places = np.argsort(strata, kind="stable")
    permuted = np.empty_like(labels)
    extreme = 1
    for _ in range(permutations):
        permuted[places] = labels[np.lexsort((random.random(len(labels)), strata))]
        difference = weigh_means(by_pair, permuted[first] == permuted[second], equal, of_pair)[2]
        # Not a number, where no pair is within a cluster, counts as extreme.
        extreme += not abs(difference) < smallest
    return extreme / (1 + permutations)


def weigh_means(values: Floats, within: NDArray[np.bool_], weights: NDArray[Any], of_pair: Ints) -> Floats:
    """Return weighted means within and between clusters, and their difference, over the strata that have both."""
    inside = np.bincount(of_pair, weights * within)
    outside = np.bincount(of_pair, weights * ~within)
    both = (inside > 0) & (outside > 0)
    sums = np.bincount(of_pair, weights * within * values)
    others = np.bincount(of_pair, weights * ~within * values)
    shares = inside[both]
    with np.errstate(invalid="ignore"):
        mean = np.divide(sums[both].sum(), shares.sum())
        other = np.divide((shares * others[both] / outside[both]).sum(), shares.sum())
    return np.array([mean, other, mean - other])


def count_compared(within: NDArray[np.bool_], of_pair: Ints) -> dict[str, int]:
    """Return the numbers of pairs within and between clusters, and of both, in strata that have both."""
    inside = np.bincount(of_pair, within)
    outside = np.bincount(of_pair, ~within)
    both = (inside > 0) & (outside > 0)
    pairs_within = int(inside[both].sum())
    pairs_between = int(outside[both].sum())
    return {"within": pairs_within, "between": pairs_between, "difference": pairs_within + pairs_between}
