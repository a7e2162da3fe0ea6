"""The premise of CAHP: are heads of one cluster redundant?

Heads are redundant if each covers for the other, so that removing both costs more than the sum of removing each alone.
The interaction of a pair is ``KL(-A-B) - KL(-A) - KL(-B)``, with the KL divergence from the full model in nats per
text. It is positive for redundant heads, zero for heads whose costs add up, and negative where one removal makes up for
the other. Small divergences grow with the square of a change, so two copies cost four times as much as one, and any two
heads that push the same way interact positively. Only the comparison tests the premise: pairs within clusters against
pairs between clusters. Second, a pruned head is redundant if its representative's output predicts its output (R²).
Heads that share keys and values are one unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.features.premise.redundancy import conclude, correlate, measure_heads
from cahp.methods.ablation import calls_without, divide
from cahp.outcomes import estimate_mean
from cahp.run.bench import Bench
from cahp.run.prune import choose
from cahp.run.splits import record_split
from cahp.stages.selection import Ranking, representatives
from cahp.tasks.answers import Evaluation, TokenEvaluation, name_units, sum_by_unit
from cahp.tasks.texts import Texts
from cahp.tasks.window import WindowProtocol
from cahp.values import Bools, Estimate, Floats, Ints, OptionError, Progress, report_progress, silent
from cahp.words import number, p_value

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "cahp.premise/1"
STAGE = "pairs"
#: Number of evaluation texts, and of evaluation tokens of a language model, where none is given.
TEXTS = 100
TOKENS = 2048
#: The largest number of pairs, where none is given, and that of a language model, whose forward passes are expensive.
_MOST_PAIRS = 3000
_MOST_OF_TOKENS = 300
_RESAMPLES = 2000
_PERMUTATIONS = 10_000
#: Number of tokens whose outputs are compared.
_TOKENS = 4096
#: The smallest singular value of a predictor, relative to its largest.
_SMALLEST = 1e-3
#: The verdicts, in words.
VERDICTS = {
    "redundant": "heads of one cluster are more redundant than heads of different clusters",
    "less redundant": "heads of one cluster are less redundant than heads of different clusters",
    "not resolved": "not resolved at this n",
}


def measure(bench: Bench, *, pairs: int | None = None) -> dict[str, Any]:
    """Test the premise on the clusters of a run and its evaluation texts; return a document of schema ``SCHEMA``.

    ``pairs`` of heads are removed, see ``draw_pairs``. Each removal is stored, so an interrupted test resumes.

    Raises:
        OptionError: If there is only one text or cluster, or no cluster with two heads.
    """
    texts = choose_texts(bench)
    seed = bench.settings.seed
    if len(texts) < 2:
        raise OptionError("redundancy cannot be tested on one text; raise --eval-limit (or --eval-tokens)")
    selection = choose(bench)
    clustering = bench.evidence.clustering
    labels, medoids = clustering.at(selection.k or clustering.nearest(selection.mask.count))
    most = _MOST_PAIRS
    if texts.task.predicts_often:
        most = _MOST_OF_TOKENS
    first, second = draw_pairs(labels, pairs, seed, most=most)
    removals: list[tuple[int | None, Ints]] = [(None, np.arange(len(labels)))]
    removals += [(int(head), second[first == head]) for head in np.unique(first)]
    alone, *rows = removal_divergences(bench, removals)
    joint = np.concatenate(rows)
    full = bench.measurements.evaluate(texts)
    values = joint - alone[first] - alone[second]
    _, sizes = _group(full, [])
    interaction = compare_pairs(values, first, second, labels, sizes=sizes, seed=seed)
    kept = representatives(labels, medoids, Ranking.of(bench.evidence.salience), bench.settings.representative)
    representative = np.arange(len(labels))
    for head in kept:
        representative[labels == labels[head]] = head
    layers = np.arange(len(labels)) // bench.card.heads
    contexts, learned = collect_contexts(bench)
    explain = partial(explained_shares, contexts, learned, progress=bench.evidence.progress)
    r2 = bench.evidence.cached(f"outputs of {texts.sha256} explained by {learned.sum()} tokens", explain)
    measures = measure_heads(bench, texts, contexts, first, second)
    unit = "texts"
    if isinstance(full, TokenEvaluation):
        unit = name_units(len(np.unique(full.documents)))
    return {
        "schema": SCHEMA,
        "model": bench.card.id,
        "data": bench.dataset.id,
        "split": bench.settings.eval_split,
        "texts": values.shape[1],
        "unit": unit,
        "protocol": bench.protocol and asdict(bench.protocol),
        "max_length": record_split(bench.resources, bench.settings.eval_split, texts).max_length,
        "heads": len(labels),
        "clusters": len(np.unique(labels)),
        "pairs": {name: interaction[name]["n"] for name in ("within", "between")},
        "alone": asdict(estimate_mean(alone.mean(axis=1), seed)),
        "interaction": interaction,
        "r2": compare_predictors(r2, representative, layers, seed=seed),
        "measures": correlate(measures, alone.mean(axis=1), joint.mean(axis=1), first, second, seed=seed),
        "verdict": _conclude(interaction["difference"]),
        "notices": [*bench.notices, *bench.cut_notices],
    }


def describe(document: Mapping[str, Any]) -> Iterator[str]:
    """Describe a document of ``measure`` in lines for people."""
    yield (
        f"{document['model']} on {document['data']}: {document['heads']} heads in {document['clusters']} clusters, "
        f"n = {document['texts']:,} {document.get('unit', 'texts')} of {document['split']}"
    )
    if document.get("protocol") is not None:
        yield f"  measured on {WindowProtocol(**document['protocol'])}"
    yield from (f"  {sentence}" for sentence in describe_result(document))
    yield f"  verdict: {VERDICTS[document['verdict']]}"
    yield from (f"  note: {notice}" for notice in document["notices"])


def describe_permutations(difference: Mapping[str, Any]) -> str:
    """Return the p value of the difference between pairs in words."""
    permutations = difference["permutations"]
    return f"{p_value(difference['p'], permutations)} ({permutations:,} permutations of the clusters)"


def describe_result(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe what was measured in sentences with the n of each number; intervals are in brackets."""

    def describe_part(part: str, name: str) -> str:
        estimate = read_estimate(document[part][name])
        return f"{estimate.text} ({estimate.span})"

    difference = document["interaction"]["difference"]
    pairs = document["pairs"]
    each = "token"
    if document.get("unit", "texts") == "texts":
        each = "text"
    predictors = {
        "representative": "its representative",
        "same_layer": "a head of its layer",
        "random": "a random head",
    }
    explained = ", ".join(f"{describe_part('r2', name)} from {words}" for name, words in predictors.items())
    sentences = [
        f"Removing one head costs {number(document['alone']['value'], 4)} nats per {each} on average. Removing two "
        f"heads of one cluster costs {describe_part('interaction', 'within')} beyond the sum of both, two heads of "
        f"different clusters {describe_part('interaction', 'between')}: n = {pairs['within']:,} and "
        f"{pairs['between']:,} pairs.",
        f"Their difference is {describe_part('interaction', 'difference')}; {describe_permutations(difference)}.",
        f"R² of a pruned head's output on held-out texts: {explained}; n = {document['r2']['random']['n']:,} heads.",
    ]
    # Documents of earlier versions have none.
    if "measures" in document:
        sentences.append(conclude(document["measures"]))
    return tuple(sentences)


def read_estimate(fields: Mapping[str, Any]) -> Estimate:
    """Read an estimate of a document."""
    return Estimate(fields["value"], tuple(fields["ci95"]), fields["n"], fields["unit"])


def _conclude(difference: Mapping[str, Any]) -> str:
    low, high = difference["ci95"]
    if difference["p"] > 0.05 or low <= 0 <= high:
        return "not resolved"
    if low > 0:
        return "redundant"
    return "less redundant"


# Pairs -----------------------------------------------------------------------------------------------------------


def draw_pairs(
    labels: Ints, count: int | None, seed: int, *, most: int = _MOST_PAIRS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``count`` pairs of heads, half within and half between clusters as far as there are; return their heads.

    None: all pairs within clusters and as many between, at the ``most``. All pairs have the most power: a permuted
    label finds few pairs within clusters among drawn ones.

    Raises:
        OptionError: If all pairs are of one kind.
    """
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    inside = np.flatnonzero(same)
    outside = np.flatnonzero(~same)
    if not len(inside) or not len(outside):
        raise OptionError("this needs two clusters, one of them with two heads; choose another --budget")
    if count is None:
        count = min(2 * len(inside), most)
    taken = min(len(inside), max(count // 2, count - len(outside)))
    random = np.random.default_rng(seed)
    chosen = np.sort(np.concatenate([random.permutation(inside)[:taken], random.permutation(outside)[: count - taken]]))
    return first[chosen], second[chosen]


def compare_pairs(
    values: Floats, first: Ints, second: Ints, labels: Ints, *, sizes: Floats | None = None, seed: int = 42
) -> dict[str, Any]:
    """Compare interactions ``values (P, n)`` of pairs on texts, within clusters against between clusters.

    Documents of a language model have ``sizes (n,)``; see ``cahp.tasks.answers.sum_by_unit``. Intervals come from a
    bootstrap over heads and texts, because pairs share heads. The two-sided ``p`` of the difference comes from
    permuting the cluster ``labels (N,)`` over heads.
    """
    random = np.random.default_rng(seed)
    heads = len(labels)
    texts = values.shape[1]
    if sizes is None:
        sizes = np.ones(texts)
    within = labels[first] == labels[second]
    by_pair = values.mean(axis=1)
    equal = np.ones(len(first))
    means = _weigh_means(by_pair, within, equal)
    draws = np.empty((_RESAMPLES, 3))
    for draw in draws:
        weights = random.multinomial(heads, np.full(heads, 1 / heads))
        drawn = random.multinomial(texts, np.full(texts, 1 / texts))
        by_text = drawn / (drawn @ sizes)
        draw[:] = _weigh_means(values @ by_text, within, weights[first] * weights[second])
    low, high = np.nanpercentile(draws, [2.5, 97.5], axis=0).tolist()
    extreme = 1
    smallest = abs(means[2]) - 1e-12
    for _ in range(_PERMUTATIONS):
        permuted = random.permutation(labels)
        # Not a number, where no pair is within a cluster, counts as extreme.
        extreme += not abs(_weigh_means(by_pair, permuted[first] == permuted[second], equal)[2]) < smallest
    counts = {"within": int(within.sum()), "between": int((~within).sum()), "difference": len(within)}
    result = {}
    for place, (name, n) in enumerate(counts.items()):
        result[name] = asdict(Estimate(float(means[place]), (low[place], high[place]), n, "nats"))
    result["difference"] |= {"p": extreme / (1 + _PERMUTATIONS), "permutations": _PERMUTATIONS}
    return result


def _weigh_means(values: Floats, within: Bools, weights: NDArray[Any]) -> NDArray[np.float64]:
    """Return weighted means within and between clusters, and their difference."""
    inside_weights = weights * within
    outside_weights = weights * ~within
    with np.errstate(invalid="ignore"):
        inside = inside_weights @ values / inside_weights.sum()
        outside = outside_weights @ values / outside_weights.sum()
    return np.array([inside, outside, inside - outside])


def removal_divergences(bench: Bench, removals: Sequence[tuple[int | None, Ints]]) -> list[NDArray[np.float64]]:
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

    def remove(first: int | None, others: Ints) -> NDArray[np.float64]:
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
        divergences, _ = _group(full, [replace(full, scores=own).divergences(full) for own in scores])
        return divergences

    tables: list[NDArray[np.float64]] = []
    for first, others in removals:
        name = f"KL divergence of {texts.sha256} without {first} and each of {others.tolist()}"
        tables.append(bench.evidence.cached(name, partial(remove, first, others)))
        done += len(texts) * len(others)
    progress(STAGE, total, total)
    return tables


def choose_texts(bench: Bench) -> Texts:
    """Return the evaluation texts; of a language model without the windows of repeated tokens."""
    texts = bench.evaluation
    return texts.take(texts.text_rows)


def _group(full: Evaluation, rows: Sequence[Floats]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """``rows`` of texts, or of tokens summed over the documents of a language model, and the sizes of these."""
    if full.units is None:
        return np.array(rows), None
    return sum_by_unit(np.array(rows), full.units, np.ones(len(full.units)))


# Outputs ---------------------------------------------------------------------------------------------------------


def compare_predictors(r2: Floats, representative: Ints, layers: Ints, *, seed: int = 42) -> dict[str, Any]:
    """Compare predictors of pruned heads by ``r2 (N, N)``: the representative ``(N,)``, and the mean of other heads.

    Intervals come from a bootstrap over pruned heads, those that are not their own representative.
    """
    heads = np.arange(len(r2))
    pruned = np.flatnonzero(representative != heads)
    others = heads != heads[:, None]
    near = others & (layers == layers[:, None])
    random = _average_over(r2, others)
    same_layer = _average_over(r2, near)
    parts = {"representative": r2[heads, representative], "random": random, "same_layer": same_layer}
    parts["difference"] = parts["representative"] - random
    return {name: asdict(estimate_mean(values[pruned], seed, "share")) for name, values in parts.items()}


def _average_over(r2: Floats, among: Bools) -> Floats:
    """Return the mean of each row over the columns ``among``, 0 where there are none."""
    return np.asarray((r2 * among).sum(axis=1) / np.maximum(among.sum(axis=1), 1))


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
    share = _TOKENS / sum(int(batch.lengths.sum()) for batch in batches)
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


def explained_shares(outputs: Floats, learned: Bools, *, progress: Progress = silent) -> NDArray[np.float64]:
    """R² ``(N, N)``: the share of the variance of the row head's output that the column head's output explains.

    ``outputs (N, tokens, width)``. Least squares with an intercept on the ``learned`` tokens, R² on the others.
    Directions in which the predictor hardly varies are left out; a prediction that is worse than the mean counts as 0.
    """
    outputs = outputs - outputs[:, learned].mean(axis=1, keepdims=True)
    known = outputs[:, learned]
    held_out = outputs[:, ~learned]
    variance = np.square(held_out).sum(axis=(1, 2))
    r2 = np.empty((len(outputs), len(outputs)))
    for head, (own, new) in enumerate(zip(known, held_out, strict=True)):
        progress(STAGE, head, len(outputs))
        left = held_out - new @ (np.linalg.pinv(own, rcond=_SMALLEST) @ known)
        r2[:, head] = np.maximum(0, 1 - np.square(left).sum(axis=(1, 2)) / np.maximum(variance, 1e-30))
    progress(STAGE, len(outputs), len(outputs))
    return r2
