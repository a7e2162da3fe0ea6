"""Compare ways to shrink a language model's cache, at equal bytes.

Groups removed, layers dropped, fewer bits and streaming heads are measured on the same texts: KL divergence from the
full model, what is read twice, bytes, weights and speed. An interrupted measurement resumes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from _articles import ARTICLES, read_articles
from _peer_rows import (
    CONTEXT,
    REFERENCE,
    SIMULATED,
    PeerRow,
    PeersDocument,
    describe_gains,
    describe_winner,
    table_rows,
)
from _peers import PEERS, PeersMeasured, PeerTexts, PeerValues, Shrunk, open_benches
from _settings import add_settings, read_settings
from numpy.typing import NDArray

from cahp.comparison.statistics import estimate_crossed
from cahp.files import Content, json_text, write_whole
from cahp.models.cards import Throughput
from cahp.models.head_model import HeadModel
from cahp.run.bench import Bench
from cahp.run.document import machine
from cahp.run.measurements import timed_on
from cahp.store import Entry, digest_code, key
from cahp.tasks.answers import TokenEvaluation, sum_by_unit
from cahp.tasks.texts import Texts
from cahp.terminal.progress import bars
from cahp.values import BudgetError, Floats, HeadMask, MaskError, ModelError, digest
from cahp.words import capital

#: The options that are fields of the settings.
SETTINGS = ("data", "device", "window", "tokens", "mix", "eval_tokens")
#: The values of documents and items of a peer.
PARTS = ("kl", "articles", "passages", "random")
#: Seconds for timing one model.
SECONDS = 40.0
#: The code on which the results depend.
CODE = digest(
    digest_code(("cahp.stages.recovery", "cahp.stages.replacement")),
    *(Path(__file__).with_name(name).read_bytes() for name in ("peers.py", "_peers.py", "_cache_changes.py")),
)


# Measured ------------------------------------------------------------------------------------------------------------


def read_values(entry: Entry) -> PeerValues:
    """Read stored values."""
    kl, articles, passages, random = (entry.arrays[name].astype(np.float64) for name in PARTS)
    return PeerValues(kl, articles, passages, random, entry.meta["bytes"], entry.meta["weights"], entry.meta["words"])


def evaluate_full(bench: Bench, texts: Texts) -> TokenEvaluation:
    """The full model's predictions."""
    full = bench.measurements.evaluate(texts)
    assert isinstance(full, TokenEvaluation)
    return full


def count_tokens(bench: Bench, texts: Texts | None) -> Floats:
    """Sizes of documents, whose mean is 1 (none without texts)."""
    if texts is None:
        return np.zeros(0)
    units = evaluate_full(bench, texts).units
    return sum_by_unit(np.zeros((0, len(units))), units, np.ones(len(units)))[1]


def sum_divergences(bench: Bench, model: HeadModel, texts: Texts | None) -> Floats:
    """Sums of a model's KL divergence over documents, divided by their mean size (none without texts)."""
    if texts is None:
        return np.zeros(0)
    answers = bench.measurements.evaluate_model(model, texts)
    assert isinstance(answers, TokenEvaluation)
    divergences = answers.divergences(evaluate_full(bench, texts))
    (sums,), _ = sum_by_unit(divergences[None], answers.units, np.ones(len(answers.units)))
    return np.asarray(sums)


def measure(bench: Bench, texts: PeerTexts, identity: tuple[object, ...], make: Callable[[], Shrunk]) -> PeerValues:
    """Measure a model on all texts; the result is stored."""
    resources = bench.resources
    read = (texts.news.sha256, texts.repeats.sha256, texts.articles and texts.articles.sha256)
    entry = key("peer", 5, *identity, bench.card.sha256, *read, resources.precisions.evaluation, CODE)
    stored = resources.load_cached("peers", entry, read_values)
    if stored is not None:
        return stored
    made = make()
    repeats = bench.measurements.evaluate_model(made.model, texts.repeats)
    assert isinstance(repeats, TokenEvaluation)
    losses, items = repeats.copying
    passages, random = np.split(np.bincount(items, losses) / np.bincount(items), 2)
    news = sum_divergences(bench, made.model, texts.news)
    articles = sum_divergences(bench, made.model, texts.articles)
    values = PeerValues(news, articles, passages, random, made.bytes, made.model.parameters, made.words)
    meta = {"bytes": values.bytes, "weights": values.weights, "words": values.words}
    resources.keep(entry, {name: getattr(values, name) for name in PARTS}, meta)
    return values


def measure_speed(bench: Bench, identity: tuple[object, ...], make: Callable[[], Shrunk]) -> Throughput | None:
    """Time a model that is really smaller; the result is stored."""
    from cahp.stages import latency

    resources = bench.resources
    clock = (*timed_on(resources.device), bench.settings.dtype, SECONDS)
    entry = key("speed of a peer", 1, *identity, bench.card.sha256, *clock, CODE)
    stored = resources.load_cached("speeds", entry, lambda entry: msgspec.convert(entry.meta, Throughput))
    if stored is not None:
        return stored
    context = min(CONTEXT, bench.card.longest_context or CONTEXT)
    progress = resources.progress
    pruned = make().model
    _, speeds = latency.measure(bench.model, pruned, contexts=(context,), batch=1, seconds=SECONDS, progress=progress)
    speed = next(iter(speeds.decode), None)
    if speed is not None and not resources.lacks_room:
        resources.keep(entry, {}, asdict(speed))
    return speed


def measure_peers(
    benches: Mapping[int, Bench],
    names: Collection[str] = tuple(PEERS),
    *,
    timed: bool = True,
    articles: Texts | None = None,
) -> PeersMeasured:
    """Measure peers on the calibration sample of each bench, by its seed.

    Where it is ``timed``, those that are really smaller are timed with the first sample.
    """
    seeds = tuple(benches)
    first = benches[seeds[0]]
    texts = PeerTexts.of(first, articles)
    values: dict[tuple[str, float], tuple[PeerValues, ...]] = {}
    reasons: dict[str, str] = {}
    plan = [(seed, name, cut) for seed in seeds for name in PEERS for cut in PEERS[name].cuts if name in names]
    plan = [row for row in plan if row[0] == seeds[0] or PEERS[row[1]].calibrated]
    for done, (seed, name, cut) in enumerate(plan):
        first.evidence.progress("peers", done, len(plan))
        if name in reasons:
            continue
        bench = benches[seed]
        identity: tuple[object, ...] = (name, round(cut, 6))
        if PEERS[name].calibrated:
            identity += (bench.calibration.sha256, seed)
        make = partial(PEERS[name].make, bench, cut)
        try:
            measured = measure(bench, texts, identity, make)
            if timed and seed == seeds[0] and name not in SIMULATED:
                measured = replace(measured, speed=measure_speed(bench, identity, make))
        except (ModelError, MaskError, BudgetError) as error:
            reasons[name] = str(error)
        else:
            values[name, cut] = (*values.get((name, cut), ()), measured)
    full = measure(first, texts, ("full",), lambda: Shrunk(first.model, 1.0, "all groups"))
    sizes, lengths = count_tokens(first, texts.news), count_tokens(first, texts.articles)
    return PeersMeasured(full, sizes, lengths, values, seeds, reasons)


# The document --------------------------------------------------------------------------------------------------------


def stack(rows: Sequence[PeerValues], seeds: int, part: str) -> Floats:
    """Values ``(seeds, n)``; a peer that does not depend on calibration has the same for each seed."""
    table = np.array([getattr(row, part) for row in rows])
    return np.broadcast_to(table, (seeds, table.shape[1]))


def summarise(bench: Bench, measured: PeersMeasured) -> PeersDocument:
    """Estimate what was measured, over seeds and documents, which are crossed; differences are paired."""
    table = {place: stack(values, len(measured.seeds), "kl") for place, values in measured.values.items()}
    left = {place: values[0].bytes for place, values in measured.values.items()}
    references = [place for place in table if place[0] == REFERENCE]
    rows: list[PeerRow] = []
    for place, values in measured.values.items():
        # Without calibration there are no seeds to vary over.
        kl, passages, random = (stack(values, len(values), part) for part in ("kl", "passages", "random"))
        row = PeerRow(
            *place,
            values[0].words,
            values[0].bytes,
            values[0].weights,
            estimate_crossed(kl, "nats", measured.sizes),
            estimate_crossed(passages, "nats"),
            estimate_crossed(random, "nats"),
            speed=values[0].speed,
        )
        if len(measured.lengths):
            read = stack(values, len(values), "articles")
            row = replace(row, articles=estimate_crossed(read, "nats", measured.lengths))
        if references and place[0] != REFERENCE:
            nearest = min(references, key=lambda other: abs(left[other] - left[place]))
            changed = table[place] - table[nearest]
            row = replace(row, difference=estimate_crossed(changed, "nats", measured.sizes, signed=True))
        rows.append(row)
    full = HeadMask.full(bench.card.layers, bench.card.heads)
    return PeersDocument(
        model=bench.card.id,
        sha256=bench.card.identity,
        unit=bench.card.unit,
        data=bench.dataset.id,
        protocol=bench.protocol,
        seeds=measured.seeds,
        calibration=bench.settings.tokens,
        context=CONTEXT,
        # Its numbers take 4 bytes.
        cache=bench.card.count_cached_bytes(full, CONTEXT) // (2 * CONTEXT),
        weights=measured.full.weights,
        passages=estimate_crossed(measured.full.passages[None], "nats"),
        random=estimate_crossed(measured.full.random[None], "nats"),
        rows=tuple(rows),
        reasons=measured.reasons,
        notices=bench.notices,
    )


def pack_arrays(measured: PeersMeasured) -> dict[str, NDArray[np.generic]]:
    """The values of each peer, cut and seed, by document and item, as arrays of one file."""
    arrays: dict[str, NDArray[np.generic]] = {"sizes": measured.sizes, "seeds": np.array(measured.seeds)}
    arrays["lengths"] = measured.lengths
    for (name, cut), values in {("full", 0.0): (measured.full,), **measured.values}.items():
        for part in PARTS:
            arrays[f"{name}-{cut:.2f}-{part}"] = np.array([getattr(one, part) for one in values], dtype=np.float32)
    return arrays


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the finding and the table, and write the document and its values."""
    parser = argparse.ArgumentParser(prog="cahp experiment peers", description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2", help="causal language model (default: smollm2)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44], help="seeds of the calibration texts")
    parser.add_argument("--only", nargs="+", choices=[*PEERS], default=[*PEERS], help="ways to measure (default: all)")
    parser.add_argument("--text", type=Path, help="a text in the form of WikiText, in windows of 2,048 tokens")
    parser.add_argument("--no-timed", action="store_true", help="time nothing")
    parser.add_argument("--out", type=Path, help="JSON file to write, with the values in .npz beside it")
    add_settings(parser, SETTINGS)
    options = parser.parse_args(arguments)
    settings = read_settings(options, ("model", *SETTINGS))
    with bars(quiet=False, lines=True) as progress:
        benches = open_benches(settings, options.seeds, progress=progress)
        articles = None
        if options.text is not None:
            articles = read_articles(benches[options.seeds[0]], options.text, ARTICLES)
        measured = measure_peers(benches, options.only, timed=not options.no_timed, articles=articles)
    document = summarise(benches[options.seeds[0]], measured)
    print(f"{document.model} on {document.data}: {capital(describe_winner(document))}.\n{describe_gains(document)}.")
    for row in table_rows(document):
        print("  " + " | ".join(row.values()))
    for reason in document.reasons.values():
        print(f"  left out: {reason}")
    if options.out is not None:
        out = options.out
        command = shlex.join(["cahp", "experiment", "peers", *(arguments or sys.argv[1:])])
        made = {"machine": machine(), "date": date.today().isoformat(), "command": command}
        arrays = pack_arrays(measured)
        files: dict[str, Content] = {
            out.name: json_text(replace(document, made=made).to_json()).encode(),
            out.with_suffix(".npz").name: lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
        }
        write_whole(out.parent, files)


if __name__ == "__main__":
    main()
