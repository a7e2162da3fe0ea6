"""The results of commands as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.output import Output
    from cahp.run.document import RunDocument

from cahp.exports.form import show_files
from cahp.exports.formats import describe_runtimes, model_form
from cahp.run.measures import Measures, show_measured
from cahp.run.show import (
    describe_choice,
    show_checks,
    show_cost,
    show_epochs,
    show_notes,
    show_outcomes,
    show_recovery,
    show_run,
    show_run_cost,
)
from cahp.show.blocks import Block, Cell, Table, Text
from cahp.show.terminal import lines
from cahp.values import Estimate
from cahp.words import duration, size_of

Document = Mapping[str, Any]


def run_lines(run: RunDocument, measures: Measures = ()) -> Iterator[str]:
    """Yield the summary of a run, with what the ``measures`` say of it."""
    yield f"{run.model.id} on {run.data.id}: {describe_choice(run)}"
    yield ""
    yield from lines(show_run(run))
    for _, blocks in show_measured(measures, run):
        yield ""
        yield from lines(blocks, summary=True)
    yield ""
    yield from lines((*show_run_cost(run), *show_checks(run)))


def _facts(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of named facts, without those that are empty."""
    yield from lines([Table("", ("", ""), [row for row in rows if row[1]])])


def evaluation_lines(document: Document) -> Iterator[str]:
    """Yield the result of ``cahp evaluate`` or ``cahp recover``."""
    kept = document["kept"]
    heads = "all heads"
    if kept is not None:
        heads = f"{kept['heads']} of {kept['of']} heads"
    yield f"{document['model']} on {document['data']['id']}: {heads}"
    yield ""
    yield from lines(_show_evaluation(document))


def _show_evaluation(document: Document) -> Iterator[Block]:
    protocol = document.get("protocol")
    if protocol is not None:
        yield Text(f"Measured on {protocol}.")
    measured = {state: outcomes for state, outcomes in document["outcomes"].items() if outcomes is not None}
    table = show_outcomes(f"On {document['data']['split']}, with 95 % intervals", measured)
    yield table
    if not table.rows:
        yield Text("Nothing to measure: one model without labels has no outcome; give --mask, or labelled data.")
    yield from show_recovery(document.get("refit"), document.get("distill"), document.get("steps", ()))
    yield from show_epochs(document.get("epochs", []))
    yield from show_notes(document["notices"], document.get("test_opened"))


def export_lines(document: Document, output: Output | None = None) -> Iterator[str]:
    """Yield the result of ``cahp export`` in ``output`` (None: it could not be written)."""
    kept = document["kept"]
    if "file" in document:
        yield f"{document['model']}: a mask of {kept['heads']} of {kept['of']} heads"
        if output is not None:
            yield output.describe([document["file"]])
        yield from lines(show_notes(document["notices"]))
        return
    if document["metrics"]:
        yield from evaluation_lines(document)
        yield ""
    else:
        yield f"{document['model']}: {kept['heads']} of {kept['of']} heads, not evaluated (no data were given)"
    form = model_form(document["form"])
    size = f"{document['parameters']['full']:,} weights -> {document['parameters']['pruned']:,}"
    if output is None:
        yield from _facts([("size", size)])
        return
    size += f"; {document['bytes'] / 1e6:.1f} MB on disk"
    if form.size == "as the original":
        size += ", where those of pruned heads are zeros"
    yield from _facts(
        [
            ("size", size),
            ("verified", f"read back in a fresh process, {form.closeness(document)}"),
            ("note", document.get("note") or ""),
            ("runs in", describe_runtimes(form)),
        ]
    )
    yield from lines(show_files(document["files"] or (), form.runtime))
    yield f"{output.describe()} ({document['form']}): {document['loads']}"
    if document["pushed"]:
        yield from _facts([("uploaded", document["pushed"])])


def data_lines(document: Document) -> Iterator[str]:
    """Yield the contents of a data set, and how many of its texts a model does not read to the end."""
    classes = next(iter(document["splits"].values()))["class_counts"]
    texts = "texts"
    if document["pairs"]:
        texts = "pairs of texts"
    content = "no labels"
    if classes is not None:
        content = f"{len(classes)} classes"
    yield f"{document['id']}: {texts}, {content}"
    unit = ""
    rows: list[tuple[Cell, ...]] = []
    notes = []
    for split, contents in document["splits"].items():
        counts = ", ".join(f"{name} {count:,}" for name, count in (contents["class_counts"] or {}).items())
        lengths = contents["lengths"]
        unit = lengths["unit"]
        rows.append((split, contents["examples"], lengths["median"], lengths["p95"], lengths["longest"], counts))
        if lengths["cut"]:
            limit = f"the {lengths['max_length']:,} tokens that are read"
            notes.append(Text(f"{split}: {lengths['cut']:,} texts are longer than {limit}"))
    columns = ("split", "texts", f"{unit} of a text: median", "95th percentile", "longest", "classes")
    yield from lines((Table("", columns, rows), *notes, *show_notes(document["notices"])))


def fit_lines(document: Document) -> Iterator[str]:
    """Yield the result of ``cahp fit``."""
    yield f"{document['model']} trained on {document['data']['train'].examples:,} texts of {document['data']['id']}"
    yield from lines(show_epochs(document["epochs"]))
    outcomes = document["outcomes"] or {}
    yield from _facts((split, f"accuracy {measured['accuracy']}") for split, measured in outcomes.items())
    yield from lines(show_notes(document["notices"]))


def latency_lines(document: Document) -> Iterator[str]:
    """Yield the result of ``cahp latency``."""
    ratio = document["latency_ratio"]
    cost = document["cost"]
    blocks = show_cost(
        cost,
        Estimate(ratio["median"], ratio["ci95"], cost.full.latency_ms.repeats, "ratio"),
        document["attention_share"],
        cache=document["kv_cache"],
        speed=document["speed"],
        attention_weights=document["attention_weights"],
    )
    yield from lines((*blocks, *show_notes(document["notices"])))


def report_lines(document: Document) -> Iterator[str]:
    """Yield the result of ``cahp report``."""
    board = "a report without a board"
    if document["answers"]:
        board = f"its board shows {document['measured']} of {document['budgets']} budgets measured"
    yield f"wrote {document['file']} ({document['bytes'] / 1e3:.0f} kB): {board}"


def catalogue_lines(entries: Iterable[Document]) -> Iterator[str]:
    """Yield the models or data sets that are known by name."""
    rows = []
    for entry in entries:
        words = entry["description"]
        if entry["available"]:
            rows.append((entry["name"], words))
        elif entry.get("kind") == "preset":
            rows.append((entry["name"], f"{words}  (read from the hub)"))
        else:
            rows.append((entry["name"], f"{words}  (not installed)"))
    yield from _facts(rows)


def preflight_lines(document: Document) -> Iterator[str]:
    """Yield the facts about a model before it is used; see ``cahp.api.preflight``."""
    yield f"{document['id']}: supported ({document['family']})"
    yield from _facts(_list_facts(document))
    yield from lines(show_notes(document["notes"]))


def _list_facts(document: Document) -> Iterator[tuple[str, str]]:
    layers = document["layers"]
    heads = document["heads"]
    yield "heads", f"{layers} layers x {heads} = {layers * heads}"
    if document["prompt"]:
        tokens = [f"{answer['word']} (token {answer['token']})" for answer in document["prompt"]["answers"]]
        yield "answers", ", ".join(tokens or document["labels"])
        yield "prompt", document["prompt"]["prompted"]
    elif document["labels"]:
        yield "classes", ", ".join(document["labels"])
    elif document["language"]:
        yield "classes", f"none: a {document['language']} language model; --prompt and --answers make it a classifier"
    else:
        yield "classes", "none: an encoder; train a classifier on it with `cahp fit`"
    if document["parameters"]:
        yield "weights", f"{document['parameters'] / 1e6:.1f} M"
    if document["to_fetch_bytes"]:
        yield "download", f"{size_of(document['to_fetch_bytes'])} from the hub"
    if document["kv_cache"]:
        yield "cache", f"keys and values take {document['kv_cache']:,} bytes per token"
    if document["memory_bytes"]:
        yield "memory", f"about {document['memory_bytes'] / 2**30:.1f} GiB for the default run"
    if document["expected_s"]:
        yield "time", f"about {duration(document['expected_s'])} for the default run on this machine's processor"
    if document["max_length"]:
        limit = f"{document['max_length']:,}"
        longest = duration(document["expected_longest_s"])
        yield "texts", f"at most {limit} tokens are read of each (--max-length); if all are so long, about {longest}"
    if document["pruned_before"]:
        yield "pruned", "already: it can be evaluated, and its heads cannot be pruned again"
    else:
        yield "exports", ", ".join(document["exports"])
