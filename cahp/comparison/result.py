"""A finished comparison: its document, its predictions, and the files it is written to. Reading one needs no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from cahp.comparison.arrays import Answers, read_arrays, write_arrays
from cahp.comparison.claims import Finding, assess_claims
from cahp.comparison.document import SCHEMA, CellRecord, ComparisonDocument
from cahp.comparison.split_results import SplitResults
from cahp.comparison.summary import Summary, summarise
from cahp.files import csv_text, finish_replacing, json_text, plain_json
from cahp.outcomes import Outcomes, list_further, to_metrics
from cahp.output import Mark, Output
from cahp.values import CahpError

FILE = "compare.json"
_TABLE = "comparison.csv"
ARRAYS = "compare.npz"
#: The files that a comparison writes, and the mark of its folder.
FILES = (FILE, _TABLE, ARRAYS)
MARK = Mark(FILE, "cahp.compare")
#: A thousand cells take two megabytes; JSON in memory may be thirty times as large.
_LARGEST_FILE = 32 << 20
_WRITE_ONE = "write one with `cahp compare --out DIR`"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods measured under one protocol.

    ``document`` is ``compare.json`` without its summary. ``answers`` are the arrays of ``compare.npz`` by part, with
    the answers of a mask in the row that a recovery's ``row`` names. A comparison that was read has the summary of its
    file, ``written``; it may lack the answers (a ``compare.json`` that was moved alone, or an older one).
    """

    document: ComparisonDocument
    answers: Mapping[str, Answers] = field(default_factory=dict)
    written: Mapping[str, Any] | None = None
    _views: dict[tuple[str, str | None], SplitResults] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def summary(self) -> Summary:
        """Means, areas, overlaps, costs and verdicts, of both splits if it reports on the test split."""
        if self.written is not None:
            return Summary.from_json(self.written)
        if not self.answers:
            raise CahpError(f"this comparison has neither {ARRAYS} nor a summary; run `cahp compare` again")
        return summarise(self.document, self.answers)

    def results_on(self, part: str, outcome: str | None = None) -> SplitResults:
        """The results on one of the document's ``parts``, in an ``outcome`` (None: the first that was measured)."""
        view = part, outcome
        if view not in self._views:
            self._views[view] = SplitResults.of(self.document, self.summary, part, outcome)
        return self._views[view]

    @cached_property
    def results(self) -> SplitResults:
        """The results on the test split if the comparison reports on it, otherwise on its evaluation texts."""
        return self.results_on(self.document.parts[-1])

    @cached_property
    def claims(self) -> tuple[Finding, ...]:
        """What ``results`` say about the paper's claims."""
        return assess_claims(self.results)

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Comparison:
        """Read the comparison in a folder, or in its ``compare.json``.

        Raises:
            CahpError: If there is none, or its schema is another one.
        """
        file = Path(path)
        if file.is_dir():
            file /= FILE
        finish_replacing(file.parent)
        try:
            with file.open("rb") as open_file:
                content = open_file.read(_LARGEST_FILE + 1)
        except OSError as error:
            raise CahpError(f"{file} cannot be read ({error}); {_WRITE_ONE}") from error
        document, summary = _parse(content, str(file))
        return cls(document, read_arrays(file.with_name(ARRAYS), document), summary)

    def recompute(self) -> Comparison:
        """Return the comparison with a summary that is computed anew; without its answers, with that of its file."""
        if not self.answers:
            return self
        return Comparison(self.document, self.answers)

    def write(self, folder: str | PathLike[str] | Output) -> list[str]:
        """Write all files of the comparison and return their names; after an error, none of them has changed.

        The files of another comparison are replaced, other files are left alone.

        Raises:
            OptionError: If the folder has files of these names that no comparison wrote.
            UnwrittenError: If the folder cannot be written to.
        """
        output = Output.of(folder)
        output.check_files(self.files, MARK)
        output.write(self.files)
        return list(self.files)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The content of the files that ``write`` writes."""
        contents = {FILE: json_text(self.as_json()).encode(), _TABLE: _write_table(self.document).encode()}
        if self.answers:
            contents[ARRAYS] = write_arrays(self.answers)
        return contents

    def as_json(self) -> dict[str, Any]:
        """The content of ``compare.json``."""
        document = self.document.to_json()
        # The long list last, for people who look at the file.
        cells = document.pop("cells")
        summary = self.written
        if summary is None:
            summary = self.summary.to_json()
        return {**document, "claims": plain_json(self.claims), "summary": summary, "cells": cells}


def _parse(content: bytes, file: str) -> tuple[ComparisonDocument, Any]:
    """Read the document and the summary in a ``compare.json``; messages call it ``file``."""
    if len(content) > _LARGEST_FILE:
        raise CahpError(f"{file} is too large for a comparison; {_WRITE_ONE}")
    try:
        data = json.loads(content.decode())
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise CahpError(f"{file} is not of the schema {SCHEMA}; {_WRITE_ONE}")
        return ComparisonDocument.from_json(data), data.get("summary")
    except (ValueError, RecursionError) as error:
        raise CahpError(f"{file} is broken ({error}); {_WRITE_ONE}") from error


# Files that may be broken ------------------------------------------------------------------------------------


def read_shown(path: Path) -> Comparison:
    """Read a comparison for a page: with the summary of its file, and every part checked.

    Raises:
        CahpError: If there is none, or it is broken.
    """
    comparison = Comparison.read(path)
    _check_parts(lambda: _views(comparison), path.name)
    return comparison


def read_upload(name: str, content: bytes) -> Comparison:
    """Read an uploaded ``compare.json``; ``name`` is its file name.

    Raises:
        CahpError: If it is no comparison; the message contains ``name``.
    """
    file = f"the file {name}"
    document, summary = _parse(content, file)
    comparison = Comparison(document, written=summary)
    # Writing it visits every part of the document.
    _check_parts(lambda: (_views(comparison), comparison.files), file)
    return comparison


def _views(comparison: Comparison) -> list[SplitResults]:
    return [comparison.results_on(comparison.document.parts[-1], name) for name in comparison.results.outcomes]


def _check_parts(visit: Callable[[], object], file: str) -> None:
    try:
        visit()
    except CahpError as error:
        raise CahpError(f"{file}: {error}") from None
    except Exception:
        # A file from elsewhere may hold anything anywhere.
        raise CahpError(f"{file} has missing or broken parts; {_WRITE_ONE}") from None


# The table ---------------------------------------------------------------------------------------------------

#: The columns in their order; outcomes that are not among them follow.
_COLUMNS = (
    *("method", "setting", "seed", "draw", "requested", "attained", "recovery", "split"),
    *("accuracy", "ci_low", "ci_high", "macro_f1", "loss", "n", "agreement", "delta_pp", "delta_low", "delta_high"),
    *("score_s", "recovery_s", "evaluation_s", "forwards", "labels", "kept", "error", "kl", "ece", "accepted"),
    *("perplexity", "bits_per_byte", "copying"),
)


def _write_table(document: ComparisonDocument) -> str:
    """Write a row for each cell, recovery and split as CSV; a failed cell has a row without outcomes."""
    rows: list[dict[str, Any]] = []
    for cell in (*document.full, *document.cells):
        measured = [
            _recovery_columns(cell, recovery, outcomes) | {"split": document.data.of(part).split}
            for recovery, result in cell.recoveries.items()
            for part, outcomes in result.measured.items()
        ]
        shared = _cell_columns(cell)
        rows += [shared | row for row in measured or [{}]]
    columns = (*_COLUMNS, *(name for name in list_further() if name not in _COLUMNS))
    cells = (map(row.get, columns) for row in rows)
    return csv_text(columns, cells)


def _cell_columns(cell: CellRecord) -> dict[str, Any]:
    setting = ""
    if cell.setting:
        setting = json.dumps(cell.setting, sort_keys=True)
    kept = cell.kept or {}
    return {
        "method": cell.method,
        "seed": cell.seed,
        "draw": cell.draw,
        "error": cell.error,
        "setting": setting,
        "requested": cell.budget.requested,
        "attained": cell.budget.attained,
        "score_s": cell.seconds.score,
        "forwards": cell.price and cell.price.forwards,
        "labels": cell.price and cell.price.labels,
        "kept": " ".join(f"{layer}.{head}" for layer in kept for head in kept[layer]),
    }


def _recovery_columns(cell: CellRecord, recovery: str, outcomes: Outcomes) -> dict[str, Any]:
    accuracy = outcomes.get("accuracy")
    change = outcomes.get("accuracy_change")
    return {
        **to_metrics(outcomes),
        "recovery": recovery,
        "ci_low": accuracy and accuracy.low,
        "ci_high": accuracy and accuracy.high,
        "delta_pp": change and change.value,
        "delta_low": change and change.low,
        "delta_high": change and change.high,
        **{name: outcomes[name].value for name in list_further() if name in outcomes},
        "accepted": cell.recoveries[recovery].accepted,
        "recovery_s": cell.seconds.recovery.get(recovery),
        "evaluation_s": cell.seconds.evaluation.get(recovery),
    }
