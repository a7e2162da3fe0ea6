"""Test whether heads of one cluster are redundant, by removing pairs of heads.

    cahp experiment premise --model minilm-bbc

CAHP keeps one head of each cluster, on the premise that its other heads are redundant. Heads are redundant if each
covers for the other, so that removing both costs more than the sum of removing each alone. A removed head is replaced
by its mean output, and costs the KL divergence from the full model. The interaction of a pair is ``KL(-A-B) - KL(-A) -
KL(-B)``, divided by ``sqrt(KL(-A) KL(-B))``. It is positive for redundant heads, zero for heads whose costs add up, and
negative where one removal makes up for the other. Small divergences grow with the square of a change, so two copies
cost four times as much as one and interact by 2, and any two heads that push the same way interact positively. Only the
comparison tests the premise: pairs within clusters against pairs between clusters, of heads of the same layers with
similar costs. Duplicates that are planted among the pairs tell what the test could find. Second, a pruned head is
redundant if its representative's output predicts its output (R²). Heads that share keys and values are one unit.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _premise_control import measure_control
from _premise_heads import (
    check_refit,
    collect_contexts,
    correlate,
    correlate_predictors,
    describe_predictors,
    measure_heads,
    measure_mean_ablation,
    measure_refitted,
)
from _premise_pairs import STAGE, choose_texts, removal_divergences, remove_pairs
from _premise_power import HALVES, conclude_difference, measure_power
from _premise_words import (
    conclude,
    describe_control,
    describe_test,
    describe_verdict,
    nats_of_one_head,
    read_estimate,
    show,
)
from _settings import add_settings, check_file, print_result, read_settings
from numpy.typing import NDArray

from cahp import open_bench
from cahp.files import json_text
from cahp.outcomes import estimate_mean
from cahp.run.bench import Bench
from cahp.run.document import machine
from cahp.run.prune import choose
from cahp.run.resources import record_split
from cahp.stages.selection import Ranking, representatives
from cahp.store import Store
from cahp.tasks.answers import WindowProtocol
from cahp.terminal.progress import bars
from cahp.values import Bools, Floats, Ints, OptionError, Progress, silent

SCHEMA = "cahp.premise/1"
#: The smallest singular value of a predictor, relative to its largest.
_SMALLEST = 1e-3
#: Significant digits of the values that a document holds.
_DIGITS = 5
#: Fields of the settings that are options.
SETTINGS = (
    *("model", "data", "limit", "eval_split", "eval_limit", "window", "tokens", "eval_tokens", "mix", "max_length"),
    *("budget", "min_per_layer", "representative", "seed", "device"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Test the premise, print the result, and write it as JSON."""
    parser = argparse.ArgumentParser(prog="cahp experiment premise", description=__doc__.splitlines()[0])
    add_settings(parser, SETTINGS, eval_limit=100, eval_tokens=2048)
    parser.add_argument("--pairs", type=int, help="pairs to remove (default: all, or 300 of a language model)")
    parser.add_argument("--control", action="store_true", help="also divide heads into halves, which must be found")
    parser.add_argument("--refit", action="store_true", help="also compare measures with the cost after a refit (slow)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="JSON file to write, with the values of all pairs")
    options = parser.parse_args(arguments)
    settings = read_settings(options, SETTINGS)
    output = check_file(options.out, "cahp.premise")
    with bars(quiet=options.json, lines=True) as progress:
        bench = open_bench(settings, store=Store(), progress=progress)
        document = measure(bench, pairs=options.pairs, control=options.control, refit=options.refit)
    document["made"] = {"machine": machine(), "date": date.today().isoformat()}
    document["shown"] = show(document)
    if output is not None:
        output.write({options.out.name: json_text(document).encode()})
    print_result(document, describe(document), as_json=options.json)


def measure(bench: Bench, *, pairs: int | None = None, control: bool = False, refit: bool = False) -> dict[str, Any]:
    """Test the premise on the clusters of a run and its evaluation texts; return a document of schema ``SCHEMA``.

    ``pairs`` of heads are removed, see ``draw_pairs``. Each removal is stored, so an interrupted test resumes. With
    ``control``, heads of the model are also divided into halves, which clusters must find. With ``refit``, the measures
    of redundancy are also compared with the cost after a refit.

    Raises:
        OptionError: If there is only one text or cluster, or no cluster with two heads.
        ModelError: If heads of this model cannot be divided.
    """
    if refit:
        check_refit(bench)
    if len(choose_texts(bench)) < 2:
        raise OptionError("redundancy cannot be tested on one text; raise --eval-limit (or --eval-tokens)")
    texts = choose_texts(bench)
    seed = bench.settings.seed
    selection = choose(bench)
    clustering = bench.evidence.clustering
    labels, medoids = clustering.at(selection.k or clustering.nearest(selection.mask.count))
    removed = remove_pairs(bench, labels, pairs)
    costs = removed.alone.mean(axis=1)
    joint = removed.joint.mean(axis=1)
    interaction = removed.compare(labels, seed=seed)
    divided = None
    halves = np.array([HALVES])
    if control:
        divided = measure_control(bench)
        halves = np.array(divided["interactions"])
    power = measure_power(
        removed.interactions,
        removed.first,
        removed.second,
        labels,
        removed.strata,
        heads=bench.card.heads,
        halves=halves,
        interval=interaction["difference"]["ci95"],
        seed=seed,
    )
    (zero,) = removal_divergences(bench, [(None, np.arange(len(labels)))], zero=True)
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
        "zero": asdict(estimate_mean(zero.mean(axis=1), seed)),
        "interaction": interaction,
        "r2": compare_predictors(r2, representative, layers, seed=seed),
        "measures": correlate(measures, costs, joint, removed.first, removed.second, seed=seed),
        "power": power,
        "control": divided,
        "verdict": conclude_difference(interaction["difference"], power),
    }
    of_heads: dict[str, NDArray[Any]] = {"cluster": labels, "stratum": removed.strata, "kl": round_values(costs)}
    of_heads["kl_zero"] = round_values(zero.mean(axis=1))
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


def explained_shares(outputs: Floats, learned: Bools, *, progress: Progress = silent) -> Floats:
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


def round_values(values: Floats) -> Floats:
    """Round values to a few significant digits."""
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values])


def describe(document: Mapping[str, Any]) -> Iterator[str]:
    """Describe a document of ``measure`` in lines for people."""
    yield (
        f"{document['model']} on {document['data']}: {document['heads']} heads in {document['clusters']} clusters, "
        f"n = {document['texts']:,} {document['unit']} of {document['split']}"
    )
    if document["protocol"] is not None:
        yield f"  measured on {WindowProtocol(**document['protocol'])}"
    yield from (f"  {sentence}" for sentence in describe_result(document))
    yield f"  verdict: {describe_verdict(document)}"
    yield from (f"  note: {notice}" for notice in document["notices"])


def describe_result(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe what was measured in sentences with the n of each number; intervals are in brackets."""

    def describe_part(part: str, name: str) -> str:
        estimate = read_estimate(document[part][name])
        return f"{estimate.text} ({estimate.span or 'no interval'})"

    pairs = document["pairs"]
    each = "token"
    if document["unit"] == "texts":
        each = "text"
    predictors = {
        "representative": "its representative",
        "same_layer": "a head of its layer",
        "random": "a random head",
    }
    known = {name: words for name, words in predictors.items() if name in document["r2"]}
    explained = ", ".join(f"{describe_part('r2', name)} from {words}" for name, words in known.items())
    sentences = [
        f"Removing one head costs {nats_of_one_head(document)} nats per {each} on average. Two heads of one cluster "
        f"interact by {describe_part('interaction', 'within')}, two heads of different clusters by "
        f"{describe_part('interaction', 'between')} (duplicates by 2): n = {pairs['within']:,} and "
        f"{pairs['between']:,} pairs.",
        describe_test(document),
        f"R² of a pruned head's output on held-out texts: {explained}; n = {document['r2']['random']['n']:,} heads.",
        conclude(document["measures"]),
    ]
    if "refitted" in document:
        sentences.append(describe_predictors(document["refitted"]))
    if document["control"] is not None:
        sentences.append(describe_control(document))
    return tuple(sentences)


if __name__ == "__main__":
    main()
