"""The results of commands as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cahp.output import Output

from cahp.exports.form import show_files
from cahp.exports.formats import describe_runtimes, model_form
from cahp.run.document import RunDocument
from cahp.run.measures import Measures, show_measured
from cahp.run.show import (
    describe_choice,
    show_checks,
    show_cost,
    show_epochs,
    show_evaluation,
    show_notes,
    show_run,
)
from cahp.show.blocks import Cell, Table, Text
from cahp.show.terminal import lines
from cahp.values import Fields
from cahp.words import duration, size_of


def run_lines(run: RunDocument, measures: Measures) -> Iterator[str]:
    """Yield the summary of a run, with what the ``measures`` say of it."""
    yield f"{run.model.id} on {run.data.id}: {describe_choice(run)}"
    yield ""
    yield from lines(show_run(run))
    for _, blocks in show_measured(measures, run):
        yield ""
        yield from lines(blocks, summary=True)
    yield ""
    yield from lines((*show_cost(run), *show_checks(run)))


def _facts(facts: Mapping[str, str | None]) -> Iterator[str]:
    """Yield the lines of named facts, without those that are empty."""
    yield from lines([Table("", ("", ""), [(name, fact) for name, fact in facts.items() if fact])])


def evaluation_lines(document: Fields) -> Iterator[str]:
    """Yield the result of ``cahp evaluate`` or ``cahp recover``."""
    heads = "all heads"
    if document["kept"] is not None:
        heads = _name_kept(document)
    yield f"{document['model']} on {document['data']['id']}: {heads}"
    yield ""
    yield from lines(show_evaluation(document))


def _name_kept(document: Fields) -> str:
    return f"{document['kept']['heads']} of {document['kept']['of']} heads"


def export_lines(document: Fields, output: Output) -> Iterator[str]:
    """Yield the result of ``cahp export`` in ``output``."""
    if "file" in document:
        yield f"{document['model']}: a mask of {_name_kept(document)}"
        yield output.describe([document["file"]])
        yield from lines(show_notes(document["notices"]))
        return
    if document["metrics"]:
        yield from evaluation_lines(document)
        yield ""
    else:
        yield f"{document['model']}: {_name_kept(document)}, not evaluated (no data were given)"
    form = model_form(document["form"])
    size = f"{document['parameters']['full']:,} weights -> {document['parameters']['pruned']:,}"
    size += f"; {document['bytes'] / 1e6:.1f} MB on disk"
    if form.size == "as the original":
        size += ", where those of pruned heads are zeros"
    facts = {
        "size": size,
        "verified": f"read back in a fresh process, {form.closeness(document)}",
        "note": document.get("note"),
        "runs in": describe_runtimes(form),
        "uploaded": document["pushed"],
    }
    yield from _facts(facts)
    yield from lines(show_files(document["files"] or (), form.runtime))
    yield f"{output.describe()} ({document['form']}): {document['loads']}"


def data_lines(document: Fields) -> Iterator[str]:
    """Yield the contents of a data set, and how many of its texts a model does not read to the end."""
    texts = "texts"
    if document["pairs"]:
        texts = "pairs of texts"
    classes = next(iter(document["splits"].values()))["class_counts"]
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


def fit_lines(document: Fields) -> Iterator[str]:
    """Yield the result of ``cahp fit``."""
    yield f"{document['model']} trained on {document['data']['train'].examples:,} texts of {document['data']['id']}"
    yield from lines(show_epochs(document["epochs"]))
    yield from _facts({split: f"accuracy {measured['accuracy']}" for split, measured in document["outcomes"].items()})
    yield from lines(show_notes(document["notices"]))


def report_lines(document: Fields) -> Iterator[str]:
    """Yield the result of ``cahp report``."""
    board = "a report without a board"
    if document["answers"]:
        board = f"its board shows {document['measured']} of {document['budgets']} budgets measured"
    yield f"wrote {document['file']} ({document['bytes'] / 1e3:.0f} kB): {board}"


def catalogue_lines(entries: Iterable[Fields]) -> Iterator[str]:
    """Yield the models or data sets that are known by name."""
    rows = {}
    for entry in entries:
        note = ""
        if not entry["available"]:
            note = "  (read from the hub)" if entry.get("kind") == "preset" else "  (not installed)"
        rows[entry["name"]] = f"{entry['description']}{note}"
    yield from _facts(rows)


def preflight_lines(document: Fields) -> Iterator[str]:
    """Yield the facts about a model before it is used; see ``cahp.api.preflight``."""
    yield f"{document['id']}: supported ({document['family']})"
    layers = document["layers"]
    heads = document["heads"]
    facts: dict[str, str | None] = {"heads": f"{layers} layers x {heads} = {layers * heads}"}
    classes = ", ".join(document["labels"])
    if not classes and document["language"]:
        classes = f"none: a {document['language']} language model; --prompt and --answers make it a classifier"
    facts["classes"] = classes or "none: an encoder; train a classifier on it with `cahp fit`"
    if document["prompt"]:
        tokens = [f"{answer['word']} (token {answer['token']})" for answer in document["prompt"]["answers"]]
        facts["answers"] = ", ".join(tokens)
        facts["prompt"] = document["prompt"]["prompted"]
    if document["parameters"]:
        facts["weights"] = f"{document['parameters'] / 1e6:.1f} M"
    if document["to_fetch_bytes"]:
        facts["download"] = f"{size_of(document['to_fetch_bytes'])} from the hub"
    if document["cached_bytes"]:
        facts["cache"] = f"keys and values take {document['cached_bytes']:,} bytes per token"
    if document["memory_bytes"]:
        facts["memory"] = f"about {document['memory_bytes'] / 2**30:.1f} GiB for the default run"
    facts["time"] = f"about {duration(document['expected_s'])} for the default run on this machine's processor"
    if document["max_length"]:
        facts["texts"] = f"at most {document['max_length']:,} tokens are read of each (--max-length)"
    if document["pruned_before"]:
        facts["pruned"] = "already: it can be evaluated, and its heads cannot be pruned again"
    else:
        facts["exports"] = ", ".join(document["exports"])
    yield from _facts(facts)
    yield from lines(show_notes(document["notes"]))
