"""Removing heads and pairs of heads, with their mean output in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from _premise_test import compare_pairs, scale_interactions, stratify, stratify_pairs

from cahp.methods.ablation import calls_without, divide
from cahp.methods.shared.scored import draw_texts
from cahp.models import average_outputs
from cahp.run.bench import Bench
from cahp.tasks.answers import Evaluation, sum_by_unit
from cahp.tasks.texts import Texts
from cahp.values import Floats, Ints, OptionError

#: The progress of all that is measured for the test.
STAGE = "removing pairs of heads"
#: The largest number of pairs, where none is given: all of them if there are no more. And that of a language model,
#: whose forward passes are expensive.
MOST_PAIRS = 3000
MOST_OF_TOKENS = 300
#: The calibration texts, at most, over which the outputs of removed heads are averaged.
MEAN_TEXTS = 128


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

    @property
    def interactions(self) -> Floats:
        """The interaction ``(P,)`` of each pair over all texts."""
        return scale_interactions(self.alone.mean(axis=1), self.joint.mean(axis=1), self.first, self.second)

    def compare(self, labels: Ints, *, seed: int) -> dict[str, Any]:
        """Compare the interactions of pairs within and between clusters ``labels (N,)``."""
        pairs = (self.first, self.second)
        return compare_pairs(self.alone, self.joint, *pairs, labels, self.strata, sizes=self.sizes, seed=seed)


def remove_pairs(bench: Bench, labels: Ints, count: int | None) -> Removals:
    """Remove each head, then ``count`` pairs of heads of clusters ``labels (N,)``; see ``draw_pairs``."""
    texts = choose_texts(bench)
    most = MOST_PAIRS
    if texts.task.predicts_often:
        most = MOST_OF_TOKENS
    every: tuple[int | None, Ints] = (None, np.arange(len(labels)))
    (alone,) = removal_divergences(bench, [every])
    strata = stratify(alone.mean(axis=1), bench.card.heads)
    first, second = draw_pairs(labels, strata, count, bench.settings.seed, most=most)
    removals = [every, *((int(head), second[first == head]) for head in np.unique(first))]
    _, *rows = removal_divergences(bench, removals)
    bench.evidence.progress(STAGE, 1, 1)
    _, sizes = group_divergences(bench.measurements.evaluate(texts), [])
    return Removals(alone, np.concatenate(rows), first, second, strata, sizes)


def draw_pairs(
    labels: Ints, strata: Ints, count: int | None, seed: int, *, most: int = MOST_PAIRS
) -> tuple[Ints, Ints]:
    """Draw ``count`` pairs of heads, half within and half between clusters as far as there are; return their heads.

    Pairs between clusters are drawn from the strata ``(N,)`` of the pairs within clusters, in proportion to them. Pairs
    whose stratum has no pair of the other kind are never drawn. None: all pairs, or else the ``most``. All pairs have
    the most power: a permuted label finds few pairs within clusters among drawn ones.

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
    if count is None and len(first) <= most:
        return first, second
    if count is None:
        count = most
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


def removal_divergences(
    bench: Bench, removals: Sequence[tuple[int | None, Ints]], *, zero: bool = False
) -> list[Floats]:
    """KL divergences ``(len(others), n)`` of texts without ``first`` and each of ``others``, for each removal.

    Removed heads give their mean output over calibration texts, or nothing (``zero``). Divergences of a language model
    are sums over the tokens of documents; see ``cahp.tasks.answers.sum_by_unit``.
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
        means = None
        if not zero:
            averaged = model.tokenize(draw_texts(bench.evidence, most=MEAN_TEXTS).inputs)
            means = [mean.float() for mean in average_outputs(model, averaged, STAGE, progress)[0]]
        return model, divide(model), model.batches(model.tokenize(texts.inputs)), means

    def remove(first: int | None, others: Ints) -> Floats:
        model, tails, batches, means = prepare()
        reader = bench.measurements.reader(texts)
        at = done
        keep = np.arange(model.layers * model.heads).reshape(model.layers, model.heads) != first
        scores = np.zeros((len(others), *full.scores.shape), dtype=np.float32)
        with torch.inference_mode():
            for batch in batches:
                calls = calls_without(model, tails, batch, model.gates(keep), others, means)
                for place, (_, rest, call) in enumerate(calls):
                    progress(STAGE, at, total)
                    at += len(batch)
                    scores[place, batch.rows] = reader.read(rest, batch, **call).cpu().numpy()
        divergences, _ = group_divergences(full, [replace(full, scores=own).divergences(full) for own in scores])
        return divergences

    tables: list[Floats] = []
    for first, others in removals:
        place = "zeros" if zero else f"means of {MEAN_TEXTS} texts"
        name = f"KL divergence of {texts.sha256} without {first} and each of {others.tolist()}, {place}"
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
