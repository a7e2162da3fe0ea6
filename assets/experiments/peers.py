"""Compare ways to shrink a language model's cache, at equal bytes.

Groups removed, layers dropped, fewer bits and streaming heads are measured on the same texts: KL divergence from the
full model, what is read twice, bytes, weights and speed. An interrupted measurement resumes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
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
from _peers import PEERS, PeerTexts, Shrunk
from _settings import add_settings, read_settings
from numpy.typing import NDArray

from cahp import Settings, open_bench
from cahp.comparison.statistics import estimate_crossed
from cahp.files import Content, json_text, write_whole
from cahp.models.cards import Throughput
from cahp.run.bench import Bench
from cahp.run.document import machine
from cahp.run.measurements import timed_on
from cahp.run.texts import load_data
from cahp.store import Entry, Store, digest_code, key
from cahp.tasks.answers import TokenEvaluation, sum_by_unit
from cahp.terminal.progress import bars
from cahp.values import BudgetError, Floats, HeadMask, MaskError, ModelError, OptionError, Progress, digest, silent
from cahp.words import capital

#: The options that are fields of the settings.
SETTINGS = ("data", "device", "window", "tokens", "mix", "eval_tokens")
#: Seconds for timing one model.
SECONDS = 40.0
#: The code on which the results depend.
CODE = digest(
    digest_code(("cahp.stages.recovery", "cahp.stages.replacement")),
    *(Path(__file__).with_name(name).read_bytes() for name in ("peers.py", "_peers.py", "_cache_changes.py")),
)


# Measured ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PeerValues:
    """What was measured of a model with one calibration sample.

    ``kl (D,)`` are sums of KL divergence over the documents, divided by their mean size, and ``passages (n,)`` and
    ``random (n,)`` mean losses of second readings. ``speed`` is None where nothing is faster, or nothing was timed.
    """

    kl: Floats
    passages: Floats
    random: Floats
    bytes: float
    weights: int
    words: str
    speed: Throughput | None = None


@dataclass(frozen=True, eq=False)
class PeersMeasured:
    """What was measured: of the ``full`` model, and of each peer by name and cut, one for each of the ``seeds``.

    A peer that does not depend on calibration has one. ``sizes (D,)`` are those of the documents, whose mean is 1, and
    ``reasons`` say why this model does not have a peer.
    """

    full: PeerValues
    sizes: Floats
    values: Mapping[tuple[str, float], tuple[PeerValues, ...]]
    seeds: tuple[int, ...]
    reasons: Mapping[str, str]


def open_benches(
    settings: Settings, seeds: Sequence[int], *, store: Store | None = None, progress: Progress = silent
) -> dict[int, Bench]:
    """Open a bench for the calibration sample of each seed; evaluation texts, model and answers are the first's.

    Raises:
        OptionError: If the model is no causal language model with a cache, measured on next tokens.
    """
    store = store or Store()
    first = open_bench(replace(settings, seed=seeds[0]), store=store, progress=progress)
    card = first.card
    if not card.task.predicts_often or card.saves != "cache":
        raise OptionError(f"{card.id} is no causal language model with a cache of keys and values; name one")
    opened = partial(open_bench, store=store, card=card, dataset=load_data(first.settings, card), progress=progress)
    benches = {seeds[0]: first}
    for seed in seeds[1:]:
        bench = opened(replace(settings, seed=seed), load=lambda _, **__: first.model)
        benches[seed] = replace(bench, measurements=first.measurements, evaluation=first.evaluation)
    return benches


def read_values(entry: Entry) -> PeerValues:
    """Read stored values."""
    kl, passages, random = (entry.arrays[name].astype(np.float64) for name in ("kl", "passages", "random"))
    speed = msgspec.convert(entry.meta["speed"], Throughput | None)
    return PeerValues(kl, passages, random, entry.meta["bytes"], entry.meta["weights"], entry.meta["words"], speed)


def evaluate_full(bench: Bench, texts: PeerTexts) -> TokenEvaluation:
    """The full model's predictions of the news."""
    full = bench.measurements.evaluate(texts.news)
    assert isinstance(full, TokenEvaluation)
    return full


def measure(
    bench: Bench, texts: PeerTexts, name: str, identity: tuple[object, ...], make: Callable[[], Shrunk], *, timed: bool
) -> PeerValues:
    """Measure a model on all texts, and time it where it is ``timed``; the result is stored."""
    resources = bench.resources
    identity += (bench.card.sha256, texts.news.sha256, texts.repeats.sha256, resources.precisions.evaluation, CODE)
    if timed:
        identity += (*timed_on(resources.device), bench.settings.dtype, SECONDS)
    entry = key("peer", 4, name, *identity)
    stored = resources.load_cached("peers", entry, read_values)
    if stored is not None:
        return stored
    made = make()
    news = bench.measurements.evaluate_model(made.model, texts.news)
    repeats = bench.measurements.evaluate_model(made.model, texts.repeats)
    assert isinstance(news, TokenEvaluation)
    assert isinstance(repeats, TokenEvaluation)
    divergences = news.divergences(evaluate_full(bench, texts))
    (kl,), _ = sum_by_unit(divergences[None], news.units, np.ones(len(news.units)))
    losses, items = repeats.copying
    passages, random = np.split(np.bincount(items, losses) / np.bincount(items), 2)
    speed = None
    if timed:
        from cahp.stages import latency

        context = min(CONTEXT, bench.card.longest_context or CONTEXT)
        _, speeds = latency.measure(
            bench.model, made.model, contexts=(context,), batch=1, seconds=SECONDS, progress=resources.progress
        )
        speed = next(iter(speeds.decode), None)
    values = PeerValues(kl, passages, random, made.bytes, made.model.parameters, made.words, speed)
    meta = {"bytes": values.bytes, "weights": values.weights, "words": values.words, "speed": None}
    if speed is not None:
        meta["speed"] = asdict(speed)
    if not (timed and resources.lacks_room):
        resources.keep(entry, {"kl": kl, "passages": passages, "random": random}, meta)
    return values


def measure_peers(
    benches: Mapping[int, Bench], names: Collection[str] = tuple(PEERS), *, timed: bool = True
) -> PeersMeasured:
    """Measure peers on the calibration sample of each bench, by its seed.

    Where it is ``timed``, those that are really smaller are timed with the first sample.
    """
    seeds = tuple(benches)
    first = benches[seeds[0]]
    texts = PeerTexts.of(first)
    values: dict[tuple[str, float], tuple[PeerValues, ...]] = {}
    reasons: dict[str, str] = {}
    plan = [(seed, name, cut) for seed in seeds for name in PEERS for cut in PEERS[name].cuts if name in names]
    plan = [row for row in plan if row[0] == seeds[0] or PEERS[row[1]].calibrated]
    for done, (seed, name, cut) in enumerate(plan):
        first.evidence.progress("peers", done, len(plan))
        if name in reasons:
            continue
        bench = benches[seed]
        identity: tuple[object, ...] = (round(cut, 6),)
        if PEERS[name].calibrated:
            identity += (bench.calibration.sha256, seed)
        faster = timed and seed == seeds[0] and name not in SIMULATED
        try:
            measured = measure(bench, texts, name, identity, partial(PEERS[name].make, bench, cut), timed=faster)
        except (ModelError, MaskError, BudgetError) as error:
            reasons[name] = str(error)
        else:
            values[name, cut] = (*values.get((name, cut), ()), measured)
    full = measure(first, texts, "full", (), lambda: Shrunk(first.model, 1.0, "all groups"), timed=False)
    units = evaluate_full(first, texts).units
    _, sizes = sum_by_unit(np.zeros((0, len(units))), units, np.ones(len(units)))
    return PeersMeasured(full, sizes, values, seeds, reasons)


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
    for (name, cut), values in {("full", 0.0): (measured.full,), **measured.values}.items():
        for part in ("kl", "passages", "random"):
            arrays[f"{name}-{cut:.2f}-{part}"] = np.array([getattr(one, part) for one in values], dtype=np.float32)
    return arrays


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the finding and the table, and write the document and its values."""
    parser = argparse.ArgumentParser(prog="cahp experiment peers", description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2", help="causal language model (default: smollm2)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44], help="seeds of the calibration texts")
    parser.add_argument("--only", nargs="+", choices=[*PEERS], default=[*PEERS], help="ways to measure (default: all)")
    parser.add_argument("--no-timed", action="store_true", help="time nothing")
    parser.add_argument("--out", type=Path, help="JSON file to write, with the values in .npz beside it")
    add_settings(parser, SETTINGS)
    options = parser.parse_args(arguments)
    settings = read_settings(options, ("model", *SETTINGS))
    with bars(quiet=False, lines=True) as progress:
        benches = open_benches(settings, options.seeds, progress=progress)
        measured = measure_peers(benches, options.only, timed=not options.no_timed)
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
