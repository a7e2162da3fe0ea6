"""A finished comparison: cells, what was asked, and who answered which text rightly. Reading one needs no torch."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cahp.comparison.document import SCHEMA, ComparisonDocument
from cahp.comparison.figures import figures
from cahp.comparison.reading import Reading
from cahp.comparison.summarising import summarise
from cahp.comparison.summary import Summary
from cahp.files import Content, csv_text, json_text, plain_json, read_array
from cahp.output import Mark, Output
from cahp.values import CahpError

FILE, _TABLE, _ARRAYS = "compare.json", "comparison.csv", "compare.npz"
#: What every comparison writes, beside its figures, and the mark that it was one.
FILES, MARK = (FILE, _TABLE, _ARRAYS), Mark(FILE, "cahp.compare")
#: A thousand cells take two megabytes; in memory JSON may become thirty times as large.
_LARGEST_FILE = 32 << 20
#: A thousand cells with three recoveries of ten thousand texts take thirty megabytes.
_LARGEST_ARRAY, _HEADER_BYTES = 256 << 20, 256


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods measured under one protocol.

    ``document`` is ``compare.json`` without its summary. ``right[split] (R, n)`` says which of the split's texts were
    answered rightly; a recovery's ``row`` in the document is its place there. Without it (a ``compare.json`` that was
    moved alone) the summary is the one that was written.
    """

    document: ComparisonDocument
    right: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    written: Mapping[str, Any] | None = None

    @cached_property
    def summary(self) -> Summary:
        """Means, areas, overlaps, cost and verdicts, of both splits if it reports on one."""
        if self.right:
            return summarise(self.document, self.right)
        return Summary.from_json(self._written())

    def _written(self) -> Mapping[str, Any]:
        if self.written is None:
            raise CahpError(f"this comparison came without {_ARRAYS} and without a summary; run `cahp compare` again")
        return self.written

    def on(self, part: str) -> Reading:
        """What it says on the split of one of the document's ``parts``."""
        return Reading.of(self.document, self.summary, part)

    @cached_property
    def reading(self) -> Reading:
        """What it says on the split that it reports on, or else on its evaluation texts."""
        return self.on(self.document.parts[-1])

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Comparison:
        """The comparison in a folder that ``write`` made, or in its ``compare.json``.

        Raises:
            CahpError: If there is none, or it is of another schema.
        """
        place = Path(path)
        file = place / FILE if place.is_dir() else place
        try:
            with file.open("rb") as open_file:
                content = open_file.read(_LARGEST_FILE + 1)
            if len(content) > _LARGEST_FILE:
                raise CahpError(f"{file} is too large for a comparison; write one with `cahp compare --out DIR`")
            said = json.loads(content.decode())
        except (OSError, ValueError, RecursionError) as error:
            raise CahpError(f"{file} cannot be read ({error}); write one with `cahp compare --out DIR`") from error
        if not isinstance(said, dict) or said.get("schema") != SCHEMA:
            raise CahpError(f"{file} is not of the schema {SCHEMA}; write one with `cahp compare --out DIR`")
        try:
            document = ComparisonDocument.from_json(said)
        except ValueError as error:
            raise CahpError(f"{file} is broken ({error}); write one with `cahp compare --out DIR`") from None
        return cls(document, _read_arrays(file.with_name(_ARRAYS), document), said.get("summary"))

    def write(self, folder: str | PathLike[str] | Output) -> list[str]:
        """Write all files of the comparison, whole or not at all, and give their names.

        Those of another comparison are replaced, other files are left alone.

        Raises:
            OptionError: If files of these names are there that no comparison wrote.
            UnwrittenError: If the folder cannot be written to.
        """
        contents, output = self._contents(), Output.of(folder)
        output.check_files(contents, MARK)
        output.write(contents)
        return list(contents)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The files that ``write`` would write."""
        found = {}
        for name, content in self._contents().items():
            out = io.BytesIO(content) if isinstance(content, bytes) else io.BytesIO()
            if callable(content):
                content(out)
            found[name] = out.getvalue()
        return found

    @property
    def archive(self) -> bytes:
        """All files in a ZIP archive."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                # A fixed date: the same comparison gives the same archive.
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return out.getvalue()

    def _contents(self) -> dict[str, Content]:
        contents: dict[str, Content] = {
            FILE: json_text(self.as_json()).encode(),
            _TABLE: _table(self.document).encode(),
            **{name: drawn.encode() for name, drawn in figures(self.reading).items()},
        }
        if self.right:
            contents[_ARRAYS] = self._write_arrays
        return contents

    def as_json(self) -> dict[str, Any]:
        """``compare.json``."""
        document = plain_json(self.document)
        # The long list last: people look at the file, too.
        cells = document.pop("cells")
        summary = plain_json(self.summary) if self.right else self._written()
        return {**document, "summary": summary, "cells": cells}

    def _write_arrays(self, file: IO[bytes]) -> None:
        arrays: dict[str, Any] = {split: np.asarray(right, np.uint8) for split, right in self.right.items()}
        np.savez_compressed(file, **arrays)


def _read_arrays(path: Path, document: ComparisonDocument) -> dict[str, NDArray[np.bool_]]:
    if not path.is_file():
        return {}
    try:
        with zipfile.ZipFile(path) as archive:
            return {Path(name).stem: _right(archive, name, document) for name in archive.namelist()}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise CahpError(f"{path} is broken ({error}); remove it, or run `cahp compare` again") from error


def _right(archive: zipfile.ZipFile, name: str, document: ComparisonDocument) -> NDArray[np.bool_]:
    """Who answered rightly on a split; no more is unpacked than the document says that there is."""
    if name not in {f"{part}.npy" for part in document.parts}:
        raise ValueError("it holds a split that the comparison does not have")
    cells = (*document.full, *document.cells)
    rows = 1 + max((one.row for cell in cells for one in cell.recoveries.values()), default=-1)
    shape = (rows, document.data.of(Path(name).stem).examples)
    # A byte for each text, and a header; who is right in a text takes no more to say.
    most = math.prod(shape) + _HEADER_BYTES
    if most > _LARGEST_ARRAY:
        raise ValueError("it is too large for a comparison")
    with archive.open(name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("it is larger than the comparison says")
    return read_array(io.BytesIO(content), len(content)).reshape(shape).astype(np.bool_)


_COLUMNS = (
    *("method", "setting", "seed", "draw", "requested", "attained", "recovery", "split"),
    *("accuracy", "ci_low", "ci_high", "macro_f1", "loss", "n", "agreement", "delta_pp", "delta_low", "delta_high"),
    *("score_s", "recovery_s", "evaluation_s", "forwards", "labels", "kept", "error"),
)


def _table(document: ComparisonDocument) -> str:
    return csv_text(_COLUMNS, ([row.get(name, "") for name in _COLUMNS] for row in _rows(document)))


def _rows(document: ComparisonDocument) -> Iterator[dict[str, Any]]:
    for cell in (*document.full, *document.cells):
        kept = cell.kept or {}
        shared = {
            **{name: getattr(cell, name) for name in ("method", "seed", "draw", "error")},
            "setting": json.dumps(cell.setting, sort_keys=True) if cell.setting else "",
            "requested": cell.budget.requested,
            "attained": cell.budget.attained,
            "score_s": cell.seconds.score,
            "forwards": cell.price and cell.price.forwards,
            "labels": cell.price and cell.price.labels,
            "kept": " ".join(f"{layer}.{head}" for layer in kept for head in kept[layer]),
        }
        measured = [(recovery, *one) for recovery, of in cell.recoveries.items() for one in of.measured]
        for recovery, part, one in measured:
            change = one.delta
            yield {
                **shared,
                **{name: getattr(one, name) for name in ("accuracy", "macro_f1", "loss", "n", "agreement")},
                "recovery": recovery,
                "split": document.data.of(part).split,
                "ci_low": one.ci95[0],
                "ci_high": one.ci95[1],
                "delta_pp": change and change.pp,
                "delta_low": change and change.ci95[0],
                "delta_high": change and change.ci95[1],
                "recovery_s": cell.seconds.recovery.get(recovery),
                "evaluation_s": cell.seconds.evaluation.get(recovery),
            }
        if not measured:
            yield shared
