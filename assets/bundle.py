"""Makes the finished results that ship with the package; ``cahp.api.bundled`` reads them.

Each is a command ``python assets/bundle.py COMMAND``: ``entry MODEL WHAT`` measures what ships as entries of the
store (see ``ENTRIES``), ``run [MODEL]`` measures the run of a model, ``budgets MODEL RECOVERY [COUNT]`` only its
budgets after a recovery, ``neutral MODEL`` its mask on neutral text, ``abilities MODEL`` all abilities under its mask,
``compare DIR`` bundles the comparison in a folder, with a summary that is computed anew, ``summaries [NAME ...]``
computes those of bundled comparisons anew (all, or these), from their answers without a model, and ``notebook`` runs
the example notebook and keeps its outputs.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cahp.api import bundled
from cahp.api.bundled import (
    BETTER_FILE,
    MADE_FILE,
    MODEL_FILE,
    ModelFacts,
    WindowsRecord,
    comparisons_folder,
    run_folder,
)
from cahp.board.budget_sweep import BudgetTable, evaluate_mask, fill, table_json
from cahp.board.head_clusters import HeadClusters
from cahp.comparison import Comparison, SplitResults
from cahp.comparison.plan import split_minimum
from cahp.comparison.result import ARRAYS, FILE
from cahp.comparison.sentences import count_texts, method_label, name_outcome
from cahp.comparison.statistics import Verdict
from cahp.features import measures
from cahp.features.abilities.measuring import measure_abilities
from cahp.features.abilities.section import RECEIPT, measure_receipt
from cahp.features.attribution.measuring import find_baseline
from cahp.features.head_cards.measuring import measure_examples, measure_removal, stored_removals
from cahp.features.learn.lessons import Answer, Subject, name_answer, subject_of
from cahp.features.learn.scene import find_family, find_scene, measure_scene
from cahp.features.learn.steps import list_steps
from cahp.features.neutral.section import AUTO, NEUTRAL_TEXT, evaluate_on_neutral
from cahp.features.own_text.measuring import name_text, over_budgets, read_maps, read_stored, read_text
from cahp.features.roles.habits import measure_maps
from cahp.files import json_text, write_whole
from cahp.models import assets, special_ids
from cahp.recoveries import AT_ONCE, NONE, RECOVERIES
from cahp.run.bench import Bench, open_bench
from cahp.run.document import machine
from cahp.run.evidence import find_roles
from cahp.run.measures import put_record
from cahp.run.prune import measure_run
from cahp.run.recoveries import cut_model
from cahp.run.settings import Settings, flags, to_arguments
from cahp.stages import SharedLayers
from cahp.stages.salience import salience
from cahp.stages.similarity import attend, read_tokens
from cahp.store import Entry, Store
from cahp.ui.parts.inputs import TOPIC, load_examples
from cahp.ui.similarity.page import EXAMPLE, name_example
from cahp.values import Estimate, HeadMask, Progress, digest, silent

#: Kinds of outputs of a notebook: a widget, and a figure as data.
_WIDGET = "application/vnd.jupyter.widget-view+json"
_PLOTLY = "application/vnd.plotly.v1+json"


class NotedStore(Store):
    """A store without what ships, which notes the entries that it returns."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.shipped = self.folder
        self.returned: dict[str, Entry] = {}

    def load(self, key: str) -> Entry | None:
        """Return the entry stored under ``key``, or None."""
        entry = super().load(key)
        if entry is not None:
            self.returned[key] = entry
        return entry


def _measure_abilities(bench: Bench) -> None:
    for complete in (False, True):
        measure_abilities(bench, HeadMask.full(bench.card.layers, bench.card.heads), complete=complete)


def _find_shares(bench: Bench) -> None:
    selections = _read_run(bench).evidence().selections(bench.settings)
    bench.evidence.find_shares([selection.mask for selection in selections])


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
    card = bench.card
    measure_examples(bench, _read_run(bench).evidence().families)
    every = range(card.layers * card.heads)
    shared = SharedLayers(HeadMask.without([head], card.layers, card.heads) for head in every)
    for head in every:
        if head not in stored_removals(bench):
            measure_removal(bench, head, shared=shared)


def find_subject(bench: Bench) -> Subject:
    """Return the heads of the bundled run as the subject of Learn: another machine may choose other heads."""
    settings = bench.settings
    clusters = _read_run(bench).evidence()
    chosen = clusters.suggested(settings)
    if settings.budget != "auto":
        (chosen,) = (one for one in clusters.selections(settings) if str(one.mask.count) == settings.budget)
    assert chosen is not None
    roles = find_roles(bench.resources)
    family = find_family(clusters.groups(chosen.k)[0], chosen.mask, clusters.salience, roles)
    scene = find_scene(bench, family, lambda: measure_scene(bench, family))
    assert scene is not None
    return subject_of(bench, chosen.mask, family, scene)


def find_answers(bench: Bench) -> dict[str, Answer]:
    """Return the answers of Learn by step."""
    subject = find_subject(bench)
    answers = {}
    for step in list_steps(subject):
        if step.measure is not None:
            measure = partial(step.measure, bench.resources.progress)
            answer = bench.resources.find_record(name_answer(subject, step.name), Answer, measure)
            assert answer is not None
            answers[step.name] = answer
    return answers


def _measure_sentence(bench: Bench) -> None:
    """Measure the answers to the example of the first screen; the run of a language model has its continuations."""
    if bench.card.task.predicts_often:
        return
    run = _read_run(bench)
    mask = run.document.mask
    masks = [selection.mask for selection in run.evidence().selections(bench.settings)]
    text = load_examples("single")[TOPIC]["text"]
    store = bench.resources.store
    name = name_text(bench.card.sha256, text, digest(*(one.sha256 for one in masks)))
    if read_stored(store, name) is not None:
        return
    curve = over_budgets(bench.model, text, masks)
    recovered = cut_model(bench.model, mask, bench.recoveries.recover(mask, bench.settings.recover))
    maps = read_maps(bench.model, text)
    store.save(
        name,
        arrays={
            "looks": maps.looks,
            "probabilities": curve.probabilities,
            "recovered": read_text(recovered, text, mask, masked=False).probabilities,
        },
        meta={"words": maps.words, "length": maps.length, "arcs": maps.arcs, "budgets": curve.budgets},
    )


def _read_run(bench: Bench) -> bundled.Bundle:
    run = bundled.read_run(bench.settings.model)
    assert run is not None
    return run


#: What ships as entries of the store: each is measured with an ordinary function, which then only reads the entries.
ENTRIES: Mapping[str, Callable[[Bench], object]] = {
    "roles": lambda bench: find_roles(bench.resources, ablate=bench.card.predicts_tokens),
    "abilities": _measure_abilities,
    "baseline": find_baseline,
    "shares": _find_shares,
    "example": _measure_example,
    "maps": measure_maps,
    "cards": _measure_cards,
    "lessons": find_answers,
    "sentence": _measure_sentence,
}


def measure_entries(
    name: str, what: str, folder: Path | None = None, progress: Progress = silent
) -> Mapping[str, Entry]:
    """Measure one of ``ENTRIES`` for the model of a bundled run; return the entries from which it is then read.

    They stay in the store of this ``folder`` (None: the user's), so an interrupted measurement resumes.
    """
    store = NotedStore(folder)
    bench = open_bench(bundled.RUNS[name], store=store, progress=progress)
    ENTRIES[what](bench)
    store.returned.clear()
    ENTRIES[what](bench)
    return store.returned


def write_run(
    place: Path,
    settings: Settings,
    *,
    most: int | None = None,
    store: Store | None = None,
    day: date,
    progress: Progress = silent,
) -> None:
    """Measure a bundled run and its tables of all budgets, and write them to ``place``.

    The refitted budgets have a table too, ``most`` of them (None: all). Where not all are refitted, all are quickly
    refitted. Of a language model nothing is timed.
    """
    bench = open_bench(settings, store=store, progress=progress)
    command = shlex.join(["cahp", "prune", *to_arguments(settings, flags("prune"))])
    run, evidence, facts = measure_run(bench, command=command, measures=measures()), bench.evidence, {}
    selections = HeadClusters.of(evidence).selections(settings)
    tables = [
        BudgetTable(selections, timed=settings.latency),
        BudgetTable(selections, recover=settings.recover, timed=False),
    ]
    if most is not None:
        tables.append(BudgetTable(selections, recover=AT_ONCE.name, timed=False))
    if bench.card.predicts_tokens:
        splits = {name: WindowsRecord.of(texts) for name, texts in bench.dataset.splits.items()}
        card = replace(bench.card, folder="", source=Path(bench.card.source or "").name)
        facts = {MODEL_FILE: json_text(asdict(ModelFacts(card, splits))).encode()}
    # Where few budgets are recovered, that of the run is among them.
    tables[1].add(run.mask.count, outcomes=run.document.outcomes.get("recovered"))
    for table in tables:
        for _ in fill(table, bench, progress):
            if table is tables[1] and table.measured()[0] == most:
                break
    # Only what the explorer draws: signatures and features are large.
    small = ("embedding", "distances", "ks", "mss", "labels", "medoids", "labels_of_k", "medoids_of_k", "mss_null")
    arrays = {
        **{name: run.arrays[name] for name in small if name in run.arrays},
        "salience": run.arrays["salience"],
        "salience_example": salience(evidence.gradients, how="example").ravel(),
    }
    made = {"machine": machine(), "date": day.isoformat()}
    content = {**table_json(tables[0], run.document), "recovered": [table.as_json() for table in tables[1:]]}
    place.mkdir(parents=True, exist_ok=True)
    write_whole(
        place,
        {
            "run.json": json_text(run.document.to_json()).encode(),
            "table.json": json_text({"made": made, **content}).encode(),
            "arrays.npz": lambda file: np.savez_compressed(file, allow_pickle=False, **arrays),
            **facts,
        },
    )


def write_budgets(
    place: Path,
    settings: Settings,
    recover: str,
    *,
    most: int | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> None:
    """Measure the budgets of a bundled run after a recovery, and write them to ``place``; all other figures stay.

    With ``most``, only so many budgets are measured, coarse to fine; after a training, which takes minutes, only that
    of the run. Only budgets without a recovery are timed; while the others are measured, the machine may be busy.
    """
    run, bench = bundled.read_run(settings.model), open_bench(settings, store=store, progress=progress)
    assert run is not None
    # Not chosen again: another machine may choose other heads.
    timed = settings.latency and recover == NONE.name
    table = BudgetTable(run.evidence().selections(settings), recover=recover, timed=timed)
    if recover in run.tables:
        table.fill_from(run.tables[recover])
    if RECOVERIES[recover].trains:
        mask = run.document.mask
        table.add(mask.count, outcomes=evaluate_mask(bench, mask, recover=recover))
    for _ in fill(table, bench, progress):
        if table.measured()[0] == most:
            break
    content = json.loads((place / "table.json").read_text(encoding="utf-8"))
    others = [one for one in content["recovered"] if one["recover"] != recover]
    measured = table_json(table, run.document) if recover == NONE.name else {"recovered": [*others, table.as_json()]}
    write_whole(place, {"table.json": json_text({**content, **measured}).encode()})


def write_neutral(place: Path, settings: Settings, *, store: Store | None = None, progress: Progress = silent) -> None:
    """Evaluate the mask of a bundled run on neutral text, and write it into the run; all other figures stay."""
    run, bench = bundled.read_run(settings.model), open_bench(settings, store=store, progress=progress)
    assert run is not None
    mask, recover = run.document.mask, settings.recover
    recovered = bench.recoveries.recover(mask, recover)
    neutral = evaluate_on_neutral(bench, mask, AUTO, recovered=recovered, recover=recover)
    write_whole(place, {"run.json": json_text(put_record(run.document, NEUTRAL_TEXT, neutral).to_json()).encode()})


def write_abilities(
    place: Path, settings: Settings, *, store: Store | None = None, progress: Progress = silent
) -> None:
    """Measure all abilities of the mask of a bundled run, and write them into the run; all other figures stay."""
    run, bench = bundled.read_run(settings.model), open_bench(settings, store=store, progress=progress)
    assert run is not None
    mask = run.document.mask
    recovered = bench.recoveries.recover(mask, settings.recover)
    record = measure_receipt(bench, mask, recovered, complete=True)
    write_whole(place, {"run.json": json_text(put_record(run.document, RECEIPT, record).to_json()).encode()})


#: Refitted budgets of a language model that ship with its run.
REFITTED = 3


def bundle_comparison(source: Path, place: Path, *, machine: str) -> Path:
    """Bundle the comparison in ``source`` as ``place``, with the machine and day of its measurement.

    It keeps the answers to each text, as far as the folder has them, and no text.

    Raises:
        CahpError: If the folder has no comparison.
    """
    comparison = Comparison.read(source).recompute()
    day = date.fromtimestamp((source / FILE).stat().st_mtime).isoformat()
    place.mkdir(parents=True, exist_ok=True)
    write_whole(
        place,
        {
            **{name: comparison.files[name] for name in (FILE, ARRAYS) if name in comparison.files},
            MADE_FILE: json_text({"machine": machine, "date": day}).encode(),
            BETTER_FILE: _write_better_methods(comparison),
        },
    )
    return place


def _write_better_methods(comparison: Comparison) -> bytes:
    """Return the content of ``better.json``."""
    document = comparison.document
    better = list_better_methods(comparison.results)
    return json_text({"sha256": document.model.sha256, "data": document.data.id, "better": better}).encode()


def list_better_methods(results: SplitResults) -> dict[str, dict[str, tuple[str, str] | None]]:
    """The method that is furthest ahead of CAHP with a sentence, by recovery and tested budget (as in a JSON object).

    None: no method is significantly better there. A method with another per-layer minimum than CAHP's does not count.
    """
    listed: dict[str, dict[str, tuple[str, str] | None]] = {}
    tests = [test for test in results.tests if test.budget is not None]
    for test in sorted(tests, key=lambda test: abs(test.pp)):
        at = listed.setdefault(test.recovery, {})
        at.setdefault(str(test.budget), None)
        if test.tested and test.better == test.method and split_minimum(test.method)[1] is None:
            at[str(test.budget)] = (test.method, _describe_better(test, results.total, noun=results.noun))
    return listed


def _describe_better(verdict: Verdict, total: int, *, noun: str = "texts") -> str:
    """A test that another method wins, for a reader of one run; ``total`` heads, and ``noun`` as in a verdict."""
    low, high = verdict.interval
    lead = Estimate(-verdict.pp, (-high, -low), verdict.n, verdict.unit)
    amount = lead.text
    if verdict.unit != "points":
        amount = f"{amount} {verdict.unit}"
    return (
        f"At {verdict.budget} of {total}, {RECOVERIES[verdict.recovery].beside}, {verdict.method} is better than "
        f"{method_label(verdict.against)} in {name_outcome(verdict.outcome)} by {amount.removeprefix('+')} "
        f"({lead.span}, {count_texts(verdict, noun)})"
    )


def renew_summary(place: Path) -> None:
    """Compute the summary of the bundled comparison in ``place`` anew; the day of its measurement stays."""
    comparison = Comparison.read(place).recompute()
    write_whole(place, {FILE: comparison.files[FILE], BETTER_FILE: _write_better_methods(comparison)})


def run_notebook(file: Path) -> None:
    """Run a notebook in a folder of its own, and write it with what readers without a kernel see of its outputs.

    Figures keep a still picture, too, for which Plotly needs ``pip install kaleido`` and Chromium.
    """
    import nbformat
    from nbclient import NotebookClient

    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype+svg"
    book = nbformat.read(file, as_version=4)
    with TemporaryDirectory() as folder:
        NotebookClient(book, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if _stays(output)]
        for output in cell.outputs:
            # A widget needs its kernel, and the HTML of a figure holds all of Plotly's script.
            output.data.pop(_WIDGET, None)
            if _PLOTLY in output.data:
                output.data.pop("text/html", None)
    nbformat.write(book, file)


def _stays(output: Any) -> bool:
    """Whether an output is a result or a figure, and no bar of progress."""
    return output.output_type == "execute_result" or (output.output_type == "display_data" and _PLOTLY in output.data)


if __name__ == "__main__":

    def show(stage: str, done: int, total: int) -> None:
        """Write the progress over the line before."""
        print(f"\r{stage} {done}/{total}          ", end="", file=sys.stderr)

    match sys.argv[1:]:
        case ["notebook"]:
            run_notebook(assets() / "examples" / "notebook.ipynb")
        case ["compare", given]:
            source = Path(given)
            print(bundle_comparison(source, comparisons_folder() / source.resolve().name, machine=machine()))
        case ["summaries", *only]:
            for file in sorted(comparisons_folder().glob(f"*/{FILE}")):
                if not only or file.parent.name in only:
                    renew_summary(file.parent)
        case ["entry", name, what]:
            made = {"machine": machine(), "date": date.today().isoformat()}
            for key, entry in measure_entries(name, what, progress=show).items():
                Store(assets()).save(key, arrays=entry.arrays, meta=entry.meta, made=made)
        case ["neutral", name]:
            write_neutral(run_folder(name), bundled.RUNS[name], progress=show)
        case ["abilities", name]:
            write_abilities(run_folder(name), bundled.RUNS[name], progress=show)
        case [] | ["run", _]:
            name = sys.argv[2] if sys.argv[2:] else bundled.NAME
            # A store of its own: what an earlier run left would hide how long the stages take. The table of a language
            # model takes an hour, and resumes.
            with TemporaryDirectory() as scratch:
                store = None if bundled.RUNS[name].latency is False else Store(Path(scratch))
                # Each refit of a language model takes a minute.
                most = REFITTED if bundled.RUNS[name].latency is False else None
                write_run(run_folder(name), bundled.RUNS[name], most=most, store=store, day=date.today(), progress=show)
        case ["budgets", name, recover, *most]:
            # The user's store: an interrupted measurement resumes.
            count = int(most[0]) if most else None
            write_budgets(run_folder(name), bundled.RUNS[name], recover, most=count, progress=show)
        case _:
            sys.exit(
                "Usage: python assets/bundle.py run [MODEL] | budgets MODEL RECOVERY [COUNT] | "
                f"entry MODEL {'|'.join(ENTRIES)} | "
                "neutral MODEL | compare DIR | summaries [NAME ...] | abilities MODEL | notebook"
            )
