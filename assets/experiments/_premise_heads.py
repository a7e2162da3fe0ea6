"""Measures of redundancy of heads, which are compared with what removing heads costs.

Each measure is turned so that it is small for heads that it calls redundant. Of a single head, a measure of pairs is
that of the head most like it. A rank correlation of 1 with the measured cost means that a measure puts heads, or pairs
of heads, into the order of what their removal costs. After a refit the other heads take over what they can, so measures
of redundancy should follow that cost; the baseline is the KL divergence after mean ablation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from _premise_pairs import STAGE, choose_texts
from _premise_words import MEASURES, describe_correlation
from scipy.stats import rankdata

from cahp.methods.shared.scored import draw_texts
from cahp.run.bench import Bench
from cahp.stages.replacement import Replaceability
from cahp.stages.similarity import attend, distances
from cahp.store import digest_code
from cahp.tasks.texts import Texts
from cahp.values import Bools, Estimate, Floats, HeadMask, Ints, OptionError, report_progress

if TYPE_CHECKING:
    from torch import Tensor

#: The measures, and the baseline.
PREDICTORS: Mapping[str, str] = {**MEASURES, "mean": "KL divergence after mean ablation"}
#: Number of tokens whose outputs are compared.
_TOKENS = 4096
#: Texts whose attention maps are compared.
_MAPS = 40
#: Resamples of a bootstrap.
_RESAMPLES = 1000
#: The calibration texts, at most, on which mean ablation is measured.
_TEXTS = 128


def collect_contexts(bench: Bench) -> tuple[Floats, Bools]:
    """The heads' context vectors ``(N, tokens, width)``, and from which tokens ``explained_shares`` learns.

    Of a classifier these are tokens of the evaluation texts, learned from where their text has an even number. Those of
    a language model are too few for its wide heads, which learn from the calibration texts. At most about 4,096 tokens
    of either are drawn with the seed.
    """
    contexts, rows = _draw_contexts(bench, choose_texts(bench))
    if not bench.evaluation.task.predicts_often:
        return contexts, rows % 2 == 0
    learned, _ = _draw_contexts(bench, bench.calibration)
    return np.concatenate([learned, contexts], axis=1), np.arange(learned.shape[1] + len(rows)) < learned.shape[1]


def _draw_contexts(bench: Bench, texts: Texts) -> tuple[Floats, Ints]:
    """The heads' context vectors ``(N, tokens, width)``, and the text of each token."""
    import torch

    model = bench.model
    draw = torch.Generator().manual_seed(bench.settings.seed)
    batches = model.batches(model.tokenize(texts.inputs))
    share = _TOKENS / sum(batch.tokens for batch in batches)
    contexts = []
    rows = []
    for batch in report_progress(batches, STAGE, bench.evidence.progress):
        seen = dict[int, torch.Tensor]()
        real = batch.tensors["attention_mask"].bool()
        real = real & (torch.rand(real.shape, generator=draw) < share).to(real.device)

        def watch(site: str, layer: int, entering: Tensor, real: Tensor = real, seen: dict[int, Tensor] = seen) -> None:
            if site == "output":
                seen[layer] = entering.reshape(*real.shape, -1)[real].float().cpu()

        with torch.inference_mode():
            model.logits(batch, tap=watch)
        contexts.append(torch.stack([seen[layer] for layer in range(model.layers)]))
        rows.append(batch.rows[real.nonzero()[:, 0].cpu().numpy()])
    whole = torch.cat(contexts, dim=1)
    by_head = whole.reshape(*whole.shape[:2], model.heads, -1).transpose(1, 2).flatten(0, 1).numpy()
    return by_head, np.concatenate(rows)


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


def project(bench: Bench, contexts: Floats) -> Floats:
    """Heads' outputs ``(N, tokens, width)`` in coordinates with the lengths and angles of the whole output."""
    projected = np.empty(contexts.shape)
    for head, rows in enumerate(contexts):
        layer, place = divmod(head, bench.card.heads)
        weight = bench.model.projection(layer).weight.double().cpu().numpy()
        width = rows.shape[1]
        projected[head] = rows @ np.asarray(np.linalg.qr(weight[:, place * width : (place + 1) * width], mode="r")).T
    return projected


def align(outputs: Floats) -> Floats:
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


def check_refit(bench: Bench) -> None:
    """Check that the model can be refitted without each head.

    Raises:
        OptionError: If it cannot be refitted, or a layer would keep no head.
    """
    if bench.recoveries.no_refit is not None:
        raise OptionError(f"{bench.recoveries.no_refit}; leave out --refit")
    if bench.card.heads < 2:
        raise OptionError("each layer has one head, and none is left without it to refit; leave out --refit")


def measure_refitted(bench: Bench, texts: Texts) -> Floats:
    """KL divergences ``(N,)`` on ``texts`` without each head, after a refit; each is stored, so this resumes."""
    inputs = bench.recoveries.inputs_sha256
    return _measure_heads(bench, f"after a refit on {inputs} of", texts, _refit_without)


def _refit_without(bench: Bench, texts: Texts, head: int) -> Floats:
    mask = _remove(bench, head)
    refitted = bench.recoveries.refit(mask, keep=False)
    without = bench.measurements.evaluate(texts, mask=mask, recovered=refitted)
    return np.array([without.divergences(bench.measurements.evaluate(texts)).mean()])


def measure_mean_ablation(bench: Bench) -> Floats:
    """KL divergences ``(N,)`` on calibration texts with the mean output of each head in its place; stored."""
    texts = draw_texts(bench.evidence, most=_TEXTS)
    return _measure_heads(bench, "with the mean of", texts, _ablate)


def _measure_heads(bench: Bench, how: str, texts: Texts, measure: Callable[[Bench, Texts, int], Floats]) -> Floats:
    """Measure the divergence ``(N,)`` of each head, which ``how`` names, by the code of recoveries; each is stored."""
    code = digest_code(["cahp.stages.recovery"])
    divergences = np.empty(bench.card.layers * bench.card.heads)
    for head in range(len(divergences)):
        bench.evidence.progress(STAGE, head, len(divergences))
        name = f"KL divergence of {texts.sha256} {how} {head} by {code}"
        divergences[head] = bench.evidence.cached(name, partial(measure, bench, texts, head))[0]
    return divergences


def _ablate(bench: Bench, texts: Texts, head: int) -> Floats:
    from cahp.stages.recovery import mean_ablate

    ablated = mean_ablate(bench.model, _remove(bench, head), texts.inputs)
    without = bench.measurements.evaluate_model(ablated, texts)
    return np.array([without.divergences(bench.measurements.evaluate(texts)).mean()])


def _remove(bench: Bench, head: int) -> HeadMask:
    return HeadMask.without([head], bench.card.layers, bench.card.heads)


def correlate_predictors(predictors: Mapping[str, Floats], costs: Floats, *, seed: int) -> dict[str, Any]:
    """Rank correlations (Spearman) of ``predictors (N,)`` of heads with their ``costs (N,)`` after the refit.

    Intervals come from a bootstrap over heads. The difference is that of replaceability from mean ablation, paired.
    """
    counts = draw_heads(len(costs), seed=seed)
    drawn = [np.repeat(np.arange(len(costs)), drawn) for drawn in counts]
    result: dict[str, Any] = {name: correlate_ranks(values, costs, drawn) for name, values in predictors.items()}
    result["difference"] = correlate_ranks(predictors["replaceability"], costs, drawn, minus=predictors["mean"])
    return result


def describe_predictors(correlations: Mapping[str, Any]) -> str:
    """Tell how far replaceability and the baseline predict the cost after the refit, with intervals and n."""
    replaceability = correlations["replaceability"]
    best = max(PREDICTORS, key=lambda name: float(correlations[name]["value"]))
    sentence = (
        f"Replaceability predicts the cost of removing a head after the refit with rank correlation "
        f"{describe_correlation(replaceability)}, KL divergence after mean ablation with "
        f"{describe_correlation(correlations['mean'])}: difference {describe_correlation(correlations['difference'])}, "
        f"n = {replaceability['n']:,} heads."
    )
    if best not in ("replaceability", "mean"):
        sentence += f" Most predictive is {PREDICTORS[best]}: {describe_correlation(correlations[best])}."
    return sentence
