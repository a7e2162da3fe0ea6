"""Removing heads and pairs of heads, and comparing pairs within strata.

A stratum holds heads of the same layers whose removal costs about the same. Two heads of a layer are more often in one
cluster than two distant ones, and costly heads interact more. So a pair within a cluster is compared only with pairs of
different clusters whose heads come from the same two strata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from _premise_control import Halves, add_pairs
from numpy.typing import NDArray

from cahp.methods.ablation import calls_without, divide
from cahp.run.bench import Bench
from cahp.tasks.answers import Evaluation, sum_by_unit
from cahp.tasks.texts import Texts
from cahp.values import Estimate, Floats, Ints, OptionError

#: The progress of all that is measured for the test.
STAGE = "removing pairs of heads"
#: The largest number of pairs, where none is given, and that of a language model, whose forward passes are expensive.
MOST_PAIRS = 3000
MOST_OF_TOKENS = 300
#: The fewest heads of a block of layers, which is divided into its cheaper and its costlier half.
_BLOCK = 12
_RESAMPLES = 2000
_PERMUTATIONS = 10_000


@dataclass(frozen=True, eq=False)
class Removals:
    """KL divergences of texts without each head, ``alone (N, n)``, and without pairs of heads, ``joint (P, n)``.

    The heads of the pairs are ``first`` and ``second (P,)``; ``strata (N,)`` and ``sizes (n,)`` are those of
    ``compare_pairs``.
    """

    alone: Floats
    joint: Floats
    first: Ints
    second: Ints
    strata: Ints
    sizes: Floats | None

    def compare(self, labels: Ints, *, seed: int) -> dict[str, Any]:
        """Compare the interactions of pairs within and between clusters ``labels (N,)``."""
        values = self.joint - self.alone[self.first] - self.alone[self.second]
        return compare_pairs(values, self.first, self.second, labels, self.strata, sizes=self.sizes, seed=seed)


def remove_pairs(bench: Bench, labels: Ints, count: int | None, halves: Halves | None) -> Removals:
    """Remove each head, then ``count`` pairs of heads of clusters ``labels (N,)``, and the pairs of two ``halves``."""
    texts = choose_texts(bench)
    most = MOST_PAIRS
    if texts.task.predicts_often:
        most = MOST_OF_TOKENS
    every: tuple[int | None, Ints] = (None, np.arange(len(labels)))
    (alone,) = removal_divergences(bench, [every])
    strata = stratify(alone.mean(axis=1), bench.card.heads)
    first, second = draw_pairs(labels, strata, count, bench.settings.seed, most=most)
    if halves is not None:
        first, second = add_pairs(first, second, halves)
    removals = [every, *((int(head), second[first == head]) for head in np.unique(first))]
    _, *rows = removal_divergences(bench, removals)
    bench.evidence.progress(STAGE, 1, 1)
    _, sizes = group_divergences(bench.measurements.evaluate(texts), [])
    return Removals(alone, np.concatenate(rows), first, second, strata, sizes)


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


def draw_pairs(
    labels: Ints, strata: Ints, count: int | None, seed: int, *, most: int = MOST_PAIRS
) -> tuple[Ints, Ints]:
    """Draw ``count`` pairs of heads, half within and half between clusters as far as there are; return their heads.

    Pairs between clusters are drawn from the strata ``(N,)`` of the pairs within clusters, in proportion to them. Pairs
    whose stratum has no pair of the other kind are never drawn. None: all pairs within clusters and as many between,
    at the ``most``. All pairs have the most power: a permuted label finds few pairs within clusters among drawn ones.

    Raises:
        OptionError: If all pairs are of one kind, or ``count`` is below 2.
    """
    if count is not None and count < 2:
        raise OptionError(f"--pairs {count} cannot be compared; give at least 2")
    first, second = np.triu_indices(len(labels), 1)
    within = labels[first] == labels[second]
    of_pair = stratify_pairs(strata, first, second)
    pairs_within = np.bincount(of_pair, within)
    pairs_between = np.bincount(of_pair, ~within)
    comparable = ((pairs_within > 0) & (pairs_between > 0))[of_pair]
    inside = np.flatnonzero(within & comparable)
    outside = np.flatnonzero(~within & comparable)
    if not len(inside):
        raise OptionError(
            "this needs two clusters, one of them with two heads, in the same layers; choose another --budget"
        )
    if count is None:
        count = min(2 * len(inside), most)
    taken = min(len(inside), max(count // 2, count - len(outside)))
    random = np.random.default_rng(seed)
    inside = random.permutation(inside)[:taken]
    outside = random.permutation(outside)
    wanted = np.bincount(of_pair[inside], minlength=len(pairs_within))
    # The place of a pair in its stratum, divided by what the stratum wants: the smallest are drawn.
    places = np.empty(len(outside))
    for stratum in np.unique(of_pair[outside]):
        members = of_pair[outside] == stratum
        places[members] = (np.arange(members.sum()) + 0.5) / max(wanted[stratum], 1e-9)
    outside = outside[np.argsort(places, kind="stable")][: count - taken]
    chosen = np.sort(np.concatenate([inside, outside]))
    return first[chosen], second[chosen]


def compare_pairs(
    values: Floats,
    first: Ints,
    second: Ints,
    labels: Ints,
    strata: Ints,
    *,
    sizes: Floats | None = None,
    seed: int = 42,
) -> dict[str, Any]:
    """Compare interactions ``values (P, n)`` of pairs on texts, within clusters against between clusters.

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
    texts = values.shape[1]
    if sizes is None:
        sizes = np.ones(texts)
    of_pair = stratify_pairs(strata, first, second)
    within = labels[first] == labels[second]
    by_pair = values.mean(axis=1)
    equal = np.ones(len(first))
    means = weigh_means(by_pair, within, equal, of_pair)
    draws = np.empty((_RESAMPLES, 3))
    for draw in draws:
        weights = random.multinomial(heads, np.full(heads, 1 / heads))
        drawn = random.multinomial(texts, np.full(texts, 1 / texts))
        by_text = drawn / (drawn @ sizes)
        draw[:] = weigh_means(values @ by_text, within, weights[first] * weights[second], of_pair)
    draws = draws[np.isfinite(draws).all(axis=1)]
    if not len(draws):
        raise OptionError("too few pairs of heads to estimate an interval; raise --pairs")
    low, high = np.percentile(draws, [2.5, 97.5], axis=0).tolist()
    counts = count_compared(within, of_pair)
    result = {}
    for place, (name, n) in enumerate(counts.items()):
        result[name] = asdict(Estimate(float(means[place]), (low[place], high[place]), n, "nats"))
    p = permute_labels(by_pair, first, second, labels, strata, random=random)
    result["difference"] |= {"p": p, "permutations": _PERMUTATIONS}
    return result


def permute_labels(
    by_pair: Floats, first: Ints, second: Ints, labels: Ints, strata: Ints, *, random: np.random.Generator
) -> float:
    """Return the two-sided p value of the difference of the pairs' means ``by_pair (P,)``; see ``compare_pairs``."""
    of_pair = stratify_pairs(strata, first, second)
    equal = np.ones(len(first))
    smallest = abs(weigh_means(by_pair, labels[first] == labels[second], equal, of_pair)[2]) - 1e-12
    places = np.argsort(strata, kind="stable")
    permuted = np.empty_like(labels)
    extreme = 1
    for _ in range(_PERMUTATIONS):
        permuted[places] = labels[np.lexsort((random.random(len(labels)), strata))]
        difference = weigh_means(by_pair, permuted[first] == permuted[second], equal, of_pair)[2]
        # Not a number, where no pair is within a cluster, counts as extreme.
        extreme += not abs(difference) < smallest
    return extreme / (1 + _PERMUTATIONS)


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


def removal_divergences(bench: Bench, removals: Sequence[tuple[int | None, Ints]]) -> list[Floats]:
    """KL divergences ``(len(others), n)`` of texts without ``first`` and each of ``others``, for each removal.

    Those of a language model are sums over the tokens of documents; see ``cahp.tasks.answers.sum_by_unit``.
    """
    import torch

    texts = choose_texts(bench)
    progress = bench.evidence.progress
    full = bench.measurements.evaluate(texts)
    total = len(texts) * sum(len(others) for _, others in removals)
    done = 0

    @cache
    def prepare() -> tuple[Any, ...]:
        model = bench.model
        return model, divide(model), model.batches(model.tokenize(texts.inputs))

    def remove(first: int | None, others: Ints) -> Floats:
        model, tails, batches = prepare()
        reader = bench.measurements.reader(texts)
        at = done
        keep = np.arange(model.layers * model.heads).reshape(model.layers, model.heads) != first
        scores = np.zeros((len(others), *full.scores.shape), dtype=np.float32)
        with torch.inference_mode():
            for batch in batches:
                calls = calls_without(model, tails, batch, model.gates(keep), others)
                for place, (_, rest, call) in enumerate(calls):
                    progress(STAGE, at, total)
                    at += len(batch)
                    scores[place, batch.rows] = reader.read(rest, batch, **call).cpu().numpy()
        divergences, _ = group_divergences(full, [replace(full, scores=own).divergences(full) for own in scores])
        return divergences

    tables: list[Floats] = []
    for first, others in removals:
        name = f"KL divergence of {texts.sha256} without {first} and each of {others.tolist()}"
        tables.append(bench.evidence.cached(name, partial(remove, first, others)))
        done += len(texts) * len(others)
    return tables


def choose_texts(bench: Bench) -> Texts:
    """Return the evaluation texts; of a language model without the windows of repeated tokens."""
    texts = bench.evaluation
    return texts.take(texts.text_rows)


def group_divergences(full: Evaluation, rows: Sequence[Floats]) -> tuple[Floats, Floats | None]:
    """``rows`` of texts, or of tokens summed over the documents of a language model, and the sizes of these."""
    if full.units is None:
        return np.array(rows), None
    return sum_by_unit(np.array(rows), full.units, np.ones(len(full.units)))
