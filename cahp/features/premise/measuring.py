"""The premise of CAHP: are heads of one cluster redundant?

Heads are redundant if each covers for the other, so that removing both costs more than the sum of removing each alone.
The interaction of a pair is ``KL(-A-B) - KL(-A) - KL(-B)``, with the KL divergence from the full model in nats per
text. It is positive for redundant heads, zero for heads whose costs add up, and negative where one removal makes up for
the other. Small divergences grow with the square of a change, so two copies cost four times as much as one, and any two
heads that push the same way interact positively. Only the comparison tests the premise: pairs within clusters against
pairs between clusters, of heads of the same layers with similar costs. Second, a pruned head is redundant if its
representative's output predicts its output (R²). Heads that share keys and values are one unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.features.premise.control import Halves, add_pairs, describe_control, find_halves, label_halves, open_control
from cahp.features.premise.redundancy import conclude, correlate, measure_heads
from cahp.features.premise.refitted import (
    check_refit,
    correlate_predictors,
    describe_predictors,
    measure_mean_ablation,
    measure_refitted,
)
from cahp.features.premise.removing import STAGE, choose_texts, group_divergences, removal_divergences
from cahp.features.premise.strata import MOST_OF_TOKENS, MOST_PAIRS, compare_pairs, draw_pairs, stratify
from cahp.outcomes import estimate_mean
from cahp.run.bench import Bench
from cahp.run.prune import choose
from cahp.run.splits import record_split
from cahp.stages.selection import Ranking, representatives
from cahp.tasks.texts import Texts
from cahp.tasks.window import WindowProtocol
from cahp.values import Bools, Estimate, Floats, Ints, OptionError, Progress, report_progress, silent
from cahp.words import number, p_value

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = "cahp.premise/1"
#: Number of evaluation texts, and of evaluation tokens of a language model, where none is given.
TEXTS = 100
TOKENS = 2048
#: Number of tokens whose outputs are compared.
_TOKENS = 4096
#: The smallest singular value of a predictor, relative to its largest.
_SMALLEST = 1e-3
#: The verdicts, in words.
VERDICTS = {
    "redundant": "heads of one cluster are more redundant than heads of different clusters",
    "less redundant": "heads of one cluster are less redundant than heads of different clusters",
    "not significant": "not significant",
}
#: Significant digits of the values that a document holds.
_DIGITS = 5


def measure(bench: Bench, *, pairs: int | None = None, control: bool = False, refit: bool = False) -> dict[str, Any]:
    """Test the premise on the clusters of a run and its evaluation texts; return a document of schema ``SCHEMA``.

    ``pairs`` of heads are removed, see ``draw_pairs``. Each removal is stored, so an interrupted test resumes. With
    ``control``, heads of the model are divided first, see ``cahp.features.premise.control``; with ``refit``, the
    measures of redundancy are also compared with the cost after a refit, see ``cahp.features.premise.refitted``.

    Raises:
        OptionError: If there is only one text or cluster, or no cluster with two heads.
        ModelError: If heads of this model cannot be divided.
    """
    halves = None
    if refit:
        check_refit(bench)
    if len(choose_texts(bench)) < 2:
        raise OptionError("redundancy cannot be tested on one text; raise --eval-limit (or --eval-tokens)")
    if control:
        bench, halves = open_control(bench)
    texts = choose_texts(bench)
    seed = bench.settings.seed
    selection = choose(bench)
    clustering = bench.evidence.clustering
    labels, medoids = clustering.at(selection.k or clustering.nearest(selection.mask.count))
    removed = remove_pairs(bench, labels, pairs, halves)
    costs = removed.alone.mean(axis=1)
    joint = removed.joint.mean(axis=1)
    interaction = removed.compare(labels, seed=seed)
    kept = representatives(labels, medoids, Ranking.of(bench.evidence.salience), bench.settings.representative)
    representative = np.arange(len(labels))
    for head in kept:
        representative[labels == labels[head]] = head
    layers = np.arange(len(labels)) // bench.card.heads
    contexts, learned = collect_contexts(bench)
    explain = partial(explained_shares, contexts, learned, progress=bench.evidence.progress)
    r2 = bench.evidence.cached(f"outputs of {texts.sha256} explained by {learned.sum()} tokens", explain)
    measures = measure_heads(bench, texts, contexts, removed.first, removed.second)
    document = {
        "schema": SCHEMA,
        "model": bench.card.id,
        "data": bench.dataset.id,
        "split": bench.settings.eval_split,
        "texts": removed.alone.shape[1],
        "unit": texts.units,
        "protocol": bench.protocol and asdict(bench.protocol),
        "max_length": record_split(bench.resources, bench.settings.eval_split, texts).max_length,
        "heads": len(labels),
        "clusters": len(np.unique(labels)),
        "pairs": {name: interaction[name]["n"] for name in ("within", "between")},
        "alone": asdict(estimate_mean(costs, seed)),
        "interaction": interaction,
        "r2": compare_predictors(r2, representative, layers, seed=seed),
        "measures": correlate(measures, costs, joint, removed.first, removed.second, seed=seed),
        "verdict": conclude_difference(interaction["difference"]),
    }
    of_heads: dict[str, NDArray[Any]] = {"cluster": labels, "stratum": removed.strata, "kl": round_values(costs)}
    if halves is not None:
        tested = removed.compare(label_halves(halves), seed=seed)
        document["control"] = find_halves(bench, halves, labels, selection.mask, tested)
    if refit:
        predictors = {name: round_values(by_head) for name, (by_head, _) in measures.items()}
        predictors["mean"] = round_values(measure_mean_ablation(bench))
        refitted = round_values(measure_refitted(bench, texts))
        document["refitted"] = correlate_predictors(predictors, refitted, seed=seed)
        of_heads |= {"kl_refitted": refitted, **predictors}
    of_pairs = {"first": removed.first, "second": removed.second, "kl": round_values(joint)}
    document["values"] = {
        "heads": {name: values.tolist() for name, values in of_heads.items()},
        "pairs": {name: values.tolist() for name, values in of_pairs.items()},
    }
    document["notices"] = [*bench.notices, *bench.cut_notices]
    return document


@dataclass(frozen=True, eq=False)
class Removals:
    """KL divergences of texts without each head, ``alone (N, n)``, and without pairs of heads, ``joint (P, n)``.

    The heads of the pairs are ``first`` and ``second (P,)``; ``strata (N,)`` and ``sizes (n,)`` are those of
    ``compare_pairs``.
    """

    alone: NDArray[np.float64]
    joint: NDArray[np.float64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    strata: NDArray[np.int64]
    sizes: NDArray[np.float64] | None

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


def round_values(values: Floats) -> NDArray[np.float64]:
    """Round values to a few significant digits."""
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])


def describe(document: Mapping[str, Any]) -> Iterator[str]:
    """Describe a document of ``measure`` in lines for people."""
    yield (
        f"{document['model']} on {document['data']}: {document['heads']} heads in {document['clusters']} clusters, "
        f"n = {document['texts']:,} {document.get('unit', 'texts')} of {document['split']}"
    )
    if document.get("protocol") is not None:
        yield f"  measured on {WindowProtocol(**document['protocol'])}"
    yield from (f"  {sentence}" for sentence in describe_result(document))
    yield f"  verdict: {describe_verdict(document)}"
    yield from (f"  note: {notice}" for notice in document["notices"])


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


def describe_result(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe what was measured in sentences with the n of each number; intervals are in brackets."""

    def describe_part(part: str, name: str) -> str:
        return describe_estimate(read_estimate(document[part][name]))

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
    known = {name: words for name, words in predictors.items() if name in document["r2"]}
    explained = ", ".join(f"{describe_part('r2', name)} from {words}" for name, words in known.items())
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
    if "refitted" in document:
        sentences.append(describe_predictors(document["refitted"]))
    if "control" in document:
        sentences.append(describe_control(document["control"]))
    return tuple(sentences)


def read_estimate(fields: Mapping[str, Any]) -> Estimate:
    """Read an estimate of a document."""
    ends = fields["ci95"]
    if ends is not None:
        ends = tuple(ends)
    return Estimate(fields["value"], ends, fields["n"], fields["unit"])


def describe_estimate(estimate: Estimate) -> str:
    """Describe an estimate with its interval, if it has one."""
    return f"{estimate.text} ({estimate.span or 'no interval'})"


def conclude_difference(difference: Mapping[str, Any]) -> str:
    """Return the verdict on a difference: significant if p is at most 0.05 and the interval excludes 0."""
    low, high = difference["ci95"]
    if difference["p"] <= 0.05 and low > 0:
        return "redundant"
    if difference["p"] <= 0.05 and high < 0:
        return "less redundant"
    return "not significant"


# Outputs ---------------------------------------------------------------------------------------------------------


def compare_predictors(r2: Floats, representative: Ints, layers: Ints, *, seed: int = 42) -> dict[str, Any]:
    """Compare predictors of pruned heads by ``r2 (N, N)``: the representative ``(N,)``, and the mean of other heads.

    Intervals come from a bootstrap over pruned heads, those that are not their own representative. Where a layer has
    one head, none is compared with another head of its layer.
    """
    heads = np.arange(len(r2))
    pruned = np.flatnonzero(representative != heads)
    others = heads != heads[:, None]
    near = others & (layers == layers[:, None])
    random = _average_over(r2, others)
    parts = {"representative": r2[heads, representative], "random": random}
    if near.any():
        parts["same_layer"] = _average_over(r2, near)
    parts["difference"] = parts["representative"] - random
    return {name: asdict(estimate_mean(values[pruned], seed, "share")) for name, values in parts.items()}


def _average_over(r2: Floats, among: Bools) -> Floats:
    """Return the mean of each row over the columns ``among``."""
    return np.asarray((r2 * among).sum(axis=1) / among.sum(axis=1))


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
