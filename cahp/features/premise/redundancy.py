"""Six measures of redundancy, compared with what removing heads costs.

Each measure is turned so that it is small for heads that it calls redundant. Of a single head, a measure of pairs is
that of the head most like it. A rank correlation of 1 with the measured cost means that a measure puts heads, or pairs
of heads, into the order of what their removal costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cahp.run.bench import Bench
from cahp.stages.replacement import Replaceability
from cahp.stages.similarity import attend, distances
from cahp.tasks.texts import Texts
from cahp.values import Estimate, Floats, HeadMask, Ints
from cahp.words import number, span

#: The measures by name, in words.
MEASURES: Mapping[str, str] = {
    "distance": "distance of CAHP",
    "attention": "distance of attention (Jensen-Shannon)",
    "maps": "correlation of mean attention maps",
    "outputs": "similarity of outputs (CKA)",
    "replaceability": "replaceability",
    "norm": "relative output norm",
}
#: Texts whose attention maps are compared.
_MAPS = 40
#: Resamples of a bootstrap.
_RESAMPLES = 1000


def measure_heads(
    bench: Bench, texts: Texts, contexts: Floats, first: Ints, second: Ints
) -> dict[str, tuple[Floats, Floats]]:
    """Each of the ``MEASURES`` of all heads ``(N,)``, and of the pairs ``first, second (P,)``.

    ``contexts (N, tokens, width)`` are the heads' context vectors. Where a layer has one head, the two measures
    that compare a head with those of its layer are left out.
    """
    signatures = bench.evidence.signatures
    outputs = project(bench, contexts)
    maps = [distances(attend(bench.model, text).by_head) for text in texts.plain_inputs[:_MAPS]]
    by_pair = {
        "distance": bench.evidence.space.distances.astype(np.float64),
        "attention": np.mean(maps, axis=0),
        "maps": 1 - np.corrcoef(np.average(signatures.mean, axis=1, weights=signatures.counts)),
        "outputs": 1 - align(outputs),
    }
    measured = {}
    for name, table in by_pair.items():
        others = table + np.diag(np.full(len(table), np.inf))
        measured[name] = (others.min(axis=1), table[first, second])
    if bench.card.heads == 1:
        return measured
    measured["replaceability"] = _unreplaced(bench, first, second)
    norms = np.sqrt(np.square(outputs).sum(axis=2).mean(axis=1)).reshape(bench.card.layers, -1)
    relative = (norms / np.maximum(norms.mean(axis=1, keepdims=True), 1e-30)).ravel()
    measured["norm"] = (relative, relative[first] + relative[second])
    return measured


def project(bench: Bench, contexts: Floats) -> NDArray[np.float64]:
    """Heads' outputs ``(N, tokens, width)`` in coordinates with the lengths and angles of the whole output."""
    projected = np.empty(contexts.shape)
    for head, rows in enumerate(contexts):
        layer, place = divmod(head, bench.card.heads)
        weight = bench.model.projection(layer).weight.double().cpu().numpy()
        width = rows.shape[1]
        projected[head] = rows @ np.asarray(np.linalg.qr(weight[:, place * width : (place + 1) * width], mode="r")).T
    return projected


def align(outputs: Floats) -> NDArray[np.float64]:
    """Linear centred kernel alignment of outputs, ``(N, N)`` in 0..1 (Kornblith et al. 2019)."""
    centred = outputs - outputs.mean(axis=1, keepdims=True)
    products = np.empty((len(outputs), len(outputs)))
    for head, own in enumerate(centred):
        across = np.square(np.einsum("ti,ntj->nij", own, centred[head:], optimize=True)).sum(axis=(1, 2))
        products[head, head:] = products[head:, head] = across
    norms = np.sqrt(products.diagonal())
    return np.asarray(products / np.maximum(np.outer(norms, norms), 1e-30))


def _unreplaced(bench: Bench, first: Ints, second: Ints) -> tuple[Floats, Floats]:
    """The share of its effect that the others of its layer cannot reproduce, of each head, and on average of a pair."""
    replaceability = Replaceability(bench.evidence.moments)
    pairs = np.empty(len(first))
    whole = HeadMask.full(bench.card.layers, bench.card.heads)
    for place, both in enumerate(zip(first, second, strict=True)):
        left = np.setdiff1d(np.arange(whole.count), both).tolist()
        shares = replaceability.shares(HeadMask.of(left, whole.layers, whole.heads)).ravel()
        pairs[place] = 1 - shares[list(both)].mean()
    return 1 - replaceability.shares(whole).ravel(), pairs


def correlate(
    measured: Mapping[str, tuple[Floats, Floats]], alone: Floats, joint: Floats, first: Ints, second: Ints, *, seed: int
) -> dict[str, Any]:
    """Rank correlations of measures with the costs ``alone (N,)`` of heads and ``joint (P,)`` of pairs (Spearman).

    Intervals come from a bootstrap over heads, because pairs share heads.
    """
    drawn = draw_heads(len(alone), seed=seed)
    of_pairs = [np.repeat(np.arange(len(first)), counts[first] * counts[second]) for counts in drawn]
    of_heads = [np.repeat(np.arange(len(alone)), counts) for counts in drawn]
    result: dict[str, Any] = {}
    for name, (by_head, by_pair) in measured.items():
        result[name] = {
            "alone": correlate_ranks(by_head, alone, of_heads),
            "pairs": correlate_ranks(by_pair, joint, of_pairs),
        }
    return result


def draw_heads(heads: int, *, seed: int) -> list[Ints]:
    """Draw heads with replacement for a bootstrap: how often each is drawn ``(N,)``, for each resample."""
    random = np.random.default_rng(seed)
    return [random.multinomial(heads, np.full(heads, 1 / heads)) for _ in range(_RESAMPLES)]


def correlate_ranks(
    values: Floats, costs: Floats, resamples: Sequence[Ints], *, minus: Floats | None = None
) -> dict[str, Any]:
    """Rank correlation (Spearman) of ``values (n,)`` with ``costs (n,)``, with an interval over ``resamples`` of rows.

    With ``minus`` it is the difference from the correlation of those values.
    """

    def estimate(rows: Ints) -> float:
        correlation = _correlation(values[rows], costs[rows])
        if minus is not None:
            correlation -= _correlation(minus[rows], costs[rows])
        return correlation

    draws = [estimate(rows) for rows in resamples if len(rows) > 1]
    low, high = np.nanpercentile(draws, [2.5, 97.5]).tolist()
    return asdict(Estimate(estimate(np.arange(len(costs))), (low, high), len(costs), "number"))


def _correlation(values: Floats, costs: Floats) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(rankdata(values), rankdata(costs))[0, 1])


def describe_correlation(correlation: Mapping[str, Any]) -> str:
    """Describe a rank correlation with its interval, such as ``0.63 (0.46 to 0.76)``."""
    low, high = correlation["ci95"]
    return f"{number(correlation['value'], 2)} ({span(low, high, 2)})"


def conclude(measures: Mapping[str, Any]) -> str:
    """Name the measure with the highest rank correlation for one head and for two, beside the distance of CAHP.

    Where the two intervals overlap, that is said.
    """
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
