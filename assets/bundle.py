"""Makes the finished results that ship with the package: ``python assets/bundle.py COMMAND ARGUMENTS``.

The commands are the last functions below. What they measure stays in the user's cache, so an interrupted one resumes.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cahp.api import bundled
from cahp.board.budget_sweep import BudgetTable, evaluate_mask, fill, table_json
from cahp.comparison import Comparison
from cahp.comparison.result import FILE
from cahp.features import measures
from cahp.features.abilities.measuring import measure_abilities
from cahp.features.attribution.measuring import find_baseline
from cahp.features.head_cards import measuring as cards
from cahp.features.learn import scene
from cahp.features.learn.steps import Answer, Subject
from cahp.features.own_text import measuring as own_text
from cahp.features.roles.habits import measure_maps
from cahp.files import json_text, write_whole
from cahp.models import assets, special_ids
from cahp.recoveries import AT_ONCE, NONE, RECOVERIES
from cahp.run import measures as running
from cahp.run.bench import Bench, open_bench
from cahp.run.document import machine
from cahp.run.evidence import find_roles
from cahp.run.prune import measure_run
from cahp.run.recoveries import cut_model
from cahp.run.settings import flags, to_arguments
from cahp.stages import SharedLayers
from cahp.stages.signatures import salience
from cahp.stages.similarity import attend, read_tokens
from cahp.store import Entry, Store
from cahp.ui.parts.inputs import TOPIC, load_examples
from cahp.ui.similarity.page import EXAMPLE, name_example
from cahp.values import HeadMask, Selection, digest

#: Arrays that the explorer draws: signatures and features are large.
SMALL = ("embedding", "distances", "ks", "mss", "labels", "medoids", "labels_of_k", "medoids_of_k", "mss_null")


def _read_run(bench: Bench) -> bundled.Bundle:
    return bundled.read_folder(bundled.run_folder(bench.settings.model))


def _list_selections(bench: Bench) -> Sequence[Selection]:
    # Not chosen again: another machine may choose other heads.
    return _read_run(bench).evidence().selections(bench.settings)


def _measure_example(bench: Bench) -> None:
    """Store the attention of all heads on the text that the page My text opens with."""
    store = bench.resources.store
    name = name_example(bench.card.sha256)
    if store.holds(name):
        return
    attention = attend(bench.model, EXAMPLE)
    arrays = {
        "weights": attention.weights.astype(np.float16),
        "ids": np.array(read_tokens(bench.model, EXAMPLE)[0]["input_ids"]),
        "special": np.array(sorted(special_ids(bench.model.tokenizer))),
    }
    store.save(name, arrays=arrays, meta={"tokens": attention.tokens})


def _measure_cards(bench: Bench) -> None:
    layers, heads = bench.card.layers, bench.card.heads
    cards.stored_examples(bench, _read_run(bench).evidence().families, measure=True)
    shared = SharedLayers(HeadMask.without([head], layers, heads) for head in range(layers * heads))
    for head in set(range(layers * heads)) - set(cards.stored_removals(bench)):
        cards.measure_removal(bench, head, shared=shared)


def find_subject(bench: Bench) -> Subject:
    """Return the heads of the bundled run as the subject of Learn."""
    clusters, mask = _read_run(bench).evidence(), _read_run(bench).document.mask
    (labels,) = (clusters.groups(one.k)[0] for one in _list_selections(bench) if one.mask.sha256 == mask.sha256)
    family = scene.find_family(labels, mask, clusters.salience, find_roles(bench.resources))
    shown = scene.find_scene(bench, family, lambda: scene.measure_scene(bench, family))
    assert shown is not None
    return Subject(bench, mask, family, shown)


def find_answers(bench: Bench) -> dict[str, Answer]:
    """Return the answers of Learn by step."""
    subject = find_subject(bench)
    answers = {}
    for step in subject.steps:
        if step.measure is not None:
            measure = partial(step.measure, bench.resources.progress)
            answer = bench.resources.find_record(subject.name_answer(step.name), Answer, measure)
            assert answer is not None
            answers[step.name] = answer
    return answers


def _measure_sentence(bench: Bench) -> None:
    """Measure the answers to the example of the first screen; the run of a language model has its continuations."""
    mask = _read_run(bench).document.mask
    masks = [selection.mask for selection in _list_selections(bench)]
    text = load_examples("single")[TOPIC]["text"]
    name = own_text.name_text(bench.card.sha256, text, digest(*(one.sha256 for one in masks)))
    if bench.card.predicts_tokens or own_text.read_stored(bench.resources.store, name) is not None:
        return
    curve, maps = own_text.over_budgets(bench.model, text, masks), own_text.read_maps(bench.model, text)
    recovered = cut_model(bench.model, mask, bench.recoveries.recover(mask, bench.settings.recover))
    after = own_text.read_text(recovered, text, mask, masked=False).probabilities
    arrays: dict[str, Any] = {"looks": maps.looks, "probabilities": curve.probabilities, "recovered": after}
    meta = {"words": maps.words, "length": maps.length, "arcs": maps.arcs, "budgets": curve.budgets}
    bench.resources.store.save(name, arrays=arrays, meta=meta)


#: What ships as entries of the store: each is measured with an ordinary function, which then only reads the entries.
ENTRIES: Mapping[str, Callable[[Bench], object]] = {
    "roles": lambda bench: find_roles(bench.resources, ablate=bench.card.predicts_tokens),
    "abilities": lambda bench: [
        measure_abilities(bench, HeadMask.full(bench.card.layers, bench.card.heads), complete=complete)
        for complete in (False, True)
    ],
    "baseline": find_baseline,
    "example": _measure_example,
    "maps": measure_maps,
    "cards": _measure_cards,
    "lessons": find_answers,
    "sentence": _measure_sentence,
}


def measure_entries(name: str, what: str, folder: Path | None = None) -> Mapping[str, Entry]:
    """Measure one of ``ENTRIES`` for the model of a bundled run; return the entries from which it is then read."""
    store = Store(folder, shipped=Path(os.devnull))
    read: dict[str, Entry] = {}

    def note(key: str, load: Callable[[str], Entry | None] = store.load) -> Entry | None:
        entry = load(key)
        if entry is not None:
            read[key] = entry
        return entry

    store.load = note  # type: ignore[method-assign]
    bench = open_bench(bundled.RUNS[name], store=store, progress=show)
    ENTRIES[what](bench)
    read.clear()
    ENTRIES[what](bench)
    return read


def show(stage: str, done: int, total: int) -> None:
    """Write the progress over the line before."""
    print(f"\r{stage} {done}/{total}          ", end="", file=sys.stderr)


# Commands ------------------------------------------------------------------------------------------------------------


def run(name: str = bundled.NAME, store: Store | None = None) -> None:
    """Measure the run of a model and its budgets; of a language model few are refitted, and all quickly refitted."""
    with TemporaryDirectory() as scratch:
        if store is None and bundled.RUNS[name].latency:
            # With nothing stored: an earlier run would hide how long the stages take.
            store = Store(Path(scratch) / "store")
        bench = open_bench(bundled.RUNS[name], store=store, progress=show)
        command = shlex.join(["cahp", "prune", *to_arguments(bench.settings, flags("prune"))])
        made = measure_run(bench, command=command, measures=measures())
        arrays = {name: made.arrays[name] for name in (*SMALL, "salience") if name in made.arrays}
        arrays["salience_example"] = salience(bench.evidence.gradients, how="example").ravel()
        origin = {"machine": machine(), "date": date.today().isoformat()}
        contents: dict[str, Any] = {
            "run.json": json_text(made.document.to_json()).encode(),
            "table.json": json_text({"made": origin, "recovered": []}).encode(),
            "arrays.npz": lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
        }
        passes = {NONE.name: "", bench.settings.recover: ""}
        if bench.card.predicts_tokens:
            # Each refit takes a minute.
            passes = {NONE.name: "", AT_ONCE.name: "", bench.settings.recover: "3"}
            splits = {name: bundled.WindowsRecord.of(texts) for name, texts in bench.dataset.splits.items()}
            card = replace(bench.card, folder="", source=Path(bench.card.source or "").name)
            contents[bundled.MODEL_FILE] = json_text(asdict(bundled.ModelFacts(card, splits))).encode()
        # The run before stays until all of this one is measured.
        place = Path(scratch) / "run"
        write_whole(place, contents)
        for recover, most in passes.items():
            _measure_budgets(bench, recover, most, place)
        write_whole(bundled.run_folder(name), {file.name: file.read_bytes() for file in place.iterdir()})


def budgets(name: str, recover: str, most: str = "") -> None:
    """Measure at most so many budgets of a run after a recovery; after a training only its own."""
    _measure_budgets(open_bench(bundled.RUNS[name], progress=show), recover, most, bundled.run_folder(name))


def _measure_budgets(bench: Bench, recover: str, most: str, place: Path) -> None:
    made = bundled.read_folder(place)
    # Not chosen again, as above.
    selections = made.evidence().selections(bench.settings)
    table = BudgetTable(selections, recover=recover, timed=bench.settings.latency and recover == NONE.name)
    table.fill_from(made.tables.get(recover, {"outcomes": {}, "speed": {}}))
    mask = made.document.mask
    table.add(mask.count, outcomes=evaluate_mask(bench, mask, recover=recover))
    for _ in fill(table, bench, show) if RECOVERIES[recover].swept else ():
        if str(table.measured()[0]) == most:
            break
    file = place / "table.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    if recover == NONE.name:
        content |= table_json(table, made.document)
    else:
        others = [one for one in content["recovered"] if one["recover"] != recover]
        content["recovered"] = [*others, table.as_json()]
    write_whole(place, {file.name: json_text(content).encode()})


def measure(name: str, what: str) -> None:
    """Measure what a feature, such as neutral or abilities, measures of the mask of a run; all other figures stay."""
    bench = open_bench(bundled.RUNS[name], progress=show)
    run = _read_run(bench).document
    (one,) = (one for one in measures() if one.name == what)
    recovered = bench.recoveries.recover(run.mask, bench.settings.recover)
    record = running.measure(one, bench, run.mask, recovered, one.wanted(bench) or one.options())
    run = running.put_record(run, one, record)
    write_whole(bundled.run_folder(name), {"run.json": json_text(run.to_json()).encode()})


def entry(name: str, what: str) -> None:
    """Measure one of ``ENTRIES`` of a model, and put it into the store that ships."""
    made = {"machine": machine(), "date": date.today().isoformat()}
    for key, one in measure_entries(name, what).items():
        Store(assets()).save(key, arrays=one.arrays, meta=one.meta, made=made)


def summaries(only: str = "*") -> None:
    """Bundle the comparisons that ``cahp compare`` wrote: compute their summaries anew, and keep no texts."""
    for file in sorted(bundled.comparisons_folder().glob(f"{only}/{FILE}")):
        comparison = Comparison.read(file.parent).recompute()
        made = file.with_name(bundled.MADE_FILE)
        if not made.exists():
            day = date.fromtimestamp(file.stat().st_mtime).isoformat()
            made.write_text(json_text({"machine": machine(), "date": day}), encoding="utf-8")
        write_whole(file.parent, {FILE: comparison.files[FILE]})


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
