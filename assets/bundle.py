"""Makes the finished results that ship with the package: ``python assets/bundle.py COMMAND ARGUMENTS``.

The commands are the last functions below. What they measure stays in the user's cache, so an interrupted one resumes.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from cahp.api import bundled
from cahp.board.budget_sweep import BudgetTable, evaluate_mask, fill, table_json
from cahp.comparison.result import FILE, Comparison
from cahp.features import measures
from cahp.features.abilities.section import RECEIPT, list_items, measure_receipt
from cahp.features.anatomy import measure_anatomy
from cahp.features.attribution.measuring import find_baseline
from cahp.features.head_cards import measuring as cards
from cahp.features.learn import scene
from cahp.features.learn.steps import Answer, Subject
from cahp.features.own_text import measuring as own_text
from cahp.features.roles.habits import measure_maps
from cahp.files import json_text, write_whole
from cahp.models import assets
from cahp.recoveries import AT_ONCE, NONE, RECOVERIES
from cahp.run import Bench, find_roles, open_bench
from cahp.run.document import machine
from cahp.run.prune import measure_run
from cahp.run.settings import flags, to_arguments
from cahp.stages import SharedLayers, attend
from cahp.stages.signatures import salience
from cahp.store import Entry, Store
from cahp.terminal.progress import Reporter
from cahp.ui.parts.inputs import find_opening
from cahp.ui.similarity.page import name_example
from cahp.values import HeadMask

#: Arrays that the explorer draws: signatures and features are large.
SMALL = ("embedding", "distances", "ks", "mss", "labels", "medoids", "labels_of_k", "medoids_of_k", "mss_null")
MADE = {"machine": machine(), "date": date.today().isoformat()}
REPORTER = Reporter(draws=sys.stderr.isatty())


def _measure_cards(bench: Bench) -> None:
    layers, heads = bench.card.layers, bench.card.heads
    made = bundled.read_folder(bundled.run_folder(bench.settings.model))
    cards.stored_examples(bench, made.evidence().families, measure=True)
    shared = SharedLayers(HeadMask.without([head], layers, heads) for head in range(layers * heads))
    for head in set(range(layers * heads)) - set(cards.stored_removals(bench)):
        cards.measure_removal(bench, head, shared=shared)


def find_lessons(bench: Bench) -> tuple[Subject, dict[str, Answer | None]]:
    """Return the heads of the bundled run as the subject of Learn, and its answers by step."""
    made = bundled.read_folder(bundled.run_folder(bench.settings.model))
    mask = made.document.mask
    roles = find_roles(bench.resources, ablate=bench.card.predicts_tokens)
    family = scene.find_family(made.arrays["labels"], mask, made.evidence().salience, roles)
    shown = scene.find_scene(bench, family, lambda: scene.measure_scene(bench, family))
    assert shown is not None
    subject = Subject(bench, mask, family, shown)
    steps = {step.name: partial(step.measure, bench.resources.progress) for step in subject.steps if step.measure}
    find = bench.resources.find_record
    return subject, {name: find(subject.name_answer(name), Answer, measure) for name, measure in steps.items()}


def _measure_sentence(bench: Bench) -> None:
    """Measure the answers to the example of the first screen; the run of a language model has its continuations."""
    made = bundled.read_folder(bundled.run_folder(bench.settings.model))
    masks = [selection.mask for selection in made.evidence().selections(bench.settings)]
    text = find_opening(bench.card.task.name)

    def measure() -> SimpleNamespace:
        recover = bench.settings.recover
        curve = own_text.over_budgets(bench.model, text, masks)
        recovered = np.stack([own_text.read_recovered(bench, text, mask, recover) for mask in masks])
        maps = vars(own_text.read_maps(bench.model, text))
        # As an array, of which a grey level may differ on another machine.
        maps["pictures"] = np.frombuffer(b64decode(maps["pictures"]), np.uint8)
        budgets = dict.fromkeys((NONE.name, recover), curve.budgets)
        return SimpleNamespace(**maps, budgets=budgets, **{NONE.name: curve.probabilities, recover: recovered})

    if not bench.card.predicts_tokens:
        bench.resources.find_values(own_text.STAGE, own_text.name_text(bench.card.sha256, text, masks), dict, measure)


#: What ships as entries of the store: each is measured with an ordinary function, which then only reads the entries.
ENTRIES: Mapping[str, Callable[[Bench], object]] = {
    "roles": lambda bench: find_roles(bench.resources, ablate=bench.card.predicts_tokens),
    "abilities": lambda bench: [
        measure_receipt(bench, HeadMask.full(bench.card.layers, bench.card.heads), None, complete=complete)
        for complete in (False, True)
    ],
    "baseline": find_baseline,
    "example": lambda bench: bench.resources.find_values(
        "example", name_example(bench.card), dict, lambda: attend(bench.model, find_opening(bench.card.task.name))
    ),
    "maps": measure_maps,
    "anatomy": measure_anatomy,
    "cards": _measure_cards,
    "lessons": find_lessons,
    "sentence": _measure_sentence,
}


def measure_entries(name: str, what: str, folder: Path | None = None) -> Mapping[str, Entry]:
    """Measure one of ``ENTRIES`` for the model of a bundled run; return the entries from which it is then read."""
    store = Store(folder, shipped=Path(os.devnull))
    read: dict[str, Entry | None] = {}

    def note(key: str, load: Callable[[str], Entry | None] = store.load) -> Entry | None:
        read[key] = load(key)
        return read[key]

    store.load = note  # type: ignore[method-assign]
    bench = open_bench(bundled.RUNS[name], store=store, progress=REPORTER)
    ENTRIES[what](bench)
    read.clear()
    ENTRIES[what](bench)
    return {key: entry for key, entry in read.items() if entry is not None}


def run(name: str = bundled.NAME, store: Store | None = None) -> None:
    """Measure the run of a model and its budgets; of a language model few are refitted, and all quickly refitted."""
    with TemporaryDirectory() as scratch:
        if store is None and bundled.RUNS[name].latency:
            # With nothing stored: an earlier run would hide how long the stages take.
            store = Store(Path(scratch) / "store")
        bench = open_bench(bundled.RUNS[name], store=store, progress=REPORTER)
        command = shlex.join(["cahp", "prune", *to_arguments(bench.settings, flags("prune"))])
        made = measure_run(bench, command=command, measures=measures())
        arrays = {name: made.arrays[name] for name in (*SMALL, "salience") if name in made.arrays}
        arrays["salience_example"] = salience(bench.evidence.gradients, how="example").ravel()
        contents: dict[str, Any] = {
            "run.json": json_text(made.document.to_json()).encode(),
            "table.json": json_text({"made": MADE, "recovered": []}).encode(),
            "arrays.npz": lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
        }
        passes = {NONE.name: "", bench.settings.recover: ""}
        if bench.card.predicts_tokens:
            passes = {NONE.name: "", AT_ONCE.name: "", bench.settings.recover: "3"}  # Each refit takes a minute.
            contents[bundled.MODEL_FILE] = json_text(asdict(bundled.ModelFacts.of(bench))).encode()
        # The run before stays until all of this one is measured.
        place = Path(scratch) / "run"
        write_whole(place, contents)
        for recover, most in passes.items():
            budgets(name, recover, most, bench, place)
        write_whole(bundled.run_folder(name), {file.name: file.read_bytes() for file in place.iterdir()})


def budgets(name: str, recover: str, most: str = "", bench: Bench | None = None, place: Path | None = None) -> None:
    """Measure at most so many budgets of a run after a recovery; after a training only its own."""
    bench = bench or open_bench(bundled.RUNS[name], progress=REPORTER)
    place = place or bundled.run_folder(name)
    made = bundled.read_folder(place)
    # Of the run, not chosen again: another machine may choose other heads.
    selections = made.evidence().selections(bench.settings)
    table = BudgetTable(selections, recover=recover, timed=bench.settings.latency and recover == NONE.name)
    table.fill_from(made.tables.get(recover, {"outcomes": {}, "speed": {}}))
    table.add(made.document.mask.count, outcomes=evaluate_mask(bench, made.document.mask, recover=recover))
    for _ in () if RECOVERIES[recover].trains else fill(table, bench, REPORTER):
        if str(table.measured()[0]) == most:
            break
    content = json.loads((place / "table.json").read_text(encoding="utf-8"))
    if recover == NONE.name:
        content |= table_json(table, made.document)
    else:
        others = [one for one in content["recovered"] if one["recover"] != recover]
        content["recovered"] = [*others, table.as_json()]
    write_whole(place, {"table.json": json_text(content).encode()})


def entry(name: str, what: str) -> None:
    """Measure one of ``ENTRIES`` of a model, and put it into the store that ships."""
    for key, one in measure_entries(name, what).items():
        Store(assets()).save(key, arrays=one.arrays, meta=one.meta, made=MADE)


def items(name: str = bundled.NAME) -> None:
    """Measure again, item by item, what the receipt of a run's abilities was made of."""
    bench = open_bench(bundled.RUNS[name], progress=REPORTER)
    document = bundled.read_folder(bundled.run_folder(name)).document
    receipt = RECEIPT.read_run(document)
    assert receipt is not None
    recovered = bench.recoveries.recover(document.mask, bench.settings.recover)
    arrays = {}
    for row in list_items(bench, document.mask, recovered, complete=receipt.complete):
        for state, values in row.values.items():
            arrays[f"{row.name}/{state}"] = values
            arrays[f"{row.name}/chance"] = np.broadcast_to(row.chance, values.shape)
        for state, losses in row.losses.items():
            arrays[f"{row.name}/losses/{state}"] = losses
    np.savez_compressed(assets() / "abilities" / f"{name}.npz", allow_pickle=False, **arrays)


def summaries(only: str = "*") -> None:
    """Bundle the comparisons that ``cahp compare`` wrote: compute their summaries anew, and keep no texts."""
    for file in sorted(bundled.comparisons_folder().glob(f"{only}/{FILE}")):
        made = file.with_name(bundled.MADE_FILE)
        if not made.exists():
            day = date.fromtimestamp(file.stat().st_mtime).isoformat()
            made.write_text(json_text({"machine": machine(), "date": day}), encoding="utf-8")
        write_whole(file.parent, {FILE: Comparison.read(file.parent).recompute().files[FILE]})


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
