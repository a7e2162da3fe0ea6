"""The arrays of ``compare.npz``: the answers of every mask to each text, or at each token of a language model.

They suffice to compute every interval and p value of a comparison.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cahp.files import read_array
from cahp.tasks.answers import Evaluation, independent_units, sum_by_unit
from cahp.tasks.texts import Texts
from cahp.values import Array, Arrays, CahpError, Floats, OptionError
from cahp.words import size_of

if TYPE_CHECKING:
    from cahp.comparison.document import ComparisonDocument

#: The arrays of ``compare.npz`` on one part by name, with a row for each measured mask and a column for each text:
#: ``predictions`` (classes), their probability ``confidence``, ``kl`` (nats from the full model) and, with labels,
#: ``nll`` (nats), ``(R, n)``; and the ``labels (n,)`` themselves. Of a language model columns are tokens: there are
#: ``documents (n,)``, ``windows (n,)`` and ``sizes (n,)`` in bytes instead of labels; ``copying (R, m)`` are the losses
#: of repeated random tokens, of the sequences ``copies (m,)``.
Answers = Arrays

#: The kinds of numbers of each array, and the arrays that have no rows.
_KINDS = {
    "predictions": "ui",
    "confidence": "f",
    "labels": "u",
    "kl": "f",
    "nll": "f",
    "copying": "f",
    "documents": "i",
    "windows": "i",
    "sizes": "i",
    "copies": "i",
}
_SINGLE = ("labels", "documents", "windows", "sizes", "copies")
#: Bytes of a number, at most.
_BYTES = 4
#: Repeated tokens, at most.
_MOST_COPIES = 1 << 14
#: A thousand cells with three recoveries on ten thousand texts take sixty megabytes.
_LARGEST_ARRAY = 256 << 20
_HEADER_BYTES = 256


def to_answers(evaluations: Sequence[Evaluation]) -> Answers:
    """Return the arrays of ``compare.npz`` on one part, with a row for each evaluation, the full model's first."""
    full = evaluations[0]
    answers = full.columns
    rows = [one.list_values(full) for one in evaluations]
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        if values.dtype.kind == "f":
            values = np.minimum(values, np.finfo(np.float16).max).astype(np.float16)
        answers[name] = values
    return answers


# Tables ------------------------------------------------------------------------------------------------------


class UnitSums(NamedTuple):
    """An outcome of each mask at each independent unit.

    The outcome of a mask is the mean of its row of ``values (R, n)``. The units have the ``sizes (n,)``, whose mean is
    1: the value of a document is the sum over its tokens, divided by the mean number of tokens of a document.
    """

    values: Array
    sizes: Floats


def tabulate(answers: Answers, full: int) -> dict[str, UnitSums]:
    """Tables of the outcomes that have a value for each text or token; ``full`` is the row of the full model."""
    predictions = answers["predictions"]
    tables = {"kl": answers.get("kl"), "agreement": predictions == predictions[full], "nll": answers.get("nll")}
    if "labels" in answers:
        tables["accuracy"] = predictions == answers["labels"]
    if "documents" not in answers:
        return {name: UnitSums(table, np.ones(table.shape[1])) for name, table in tables.items() if table is not None}
    units = independent_units(answers["documents"], answers["windows"])
    ones = np.ones(predictions.shape[1])
    by_unit = {name: UnitSums(*sum_by_unit(table, units, ones)) for name, table in tables.items()}
    bits = answers["nll"] / np.float64(math.log(2))
    by_unit["bits_per_byte"] = UnitSums(*sum_by_unit(bits, units, answers["sizes"].astype(np.float64)))
    if "copying" in answers:
        ones = np.ones(len(answers["copies"]))
        by_unit["copying"] = UnitSums(*sum_by_unit(answers["copying"], answers["copies"], ones))
    return by_unit


# Files -------------------------------------------------------------------------------------------------------


def check_room(texts: Texts, rows: int) -> None:
    """Check that ``compare.npz`` may hold the answers of so many masks to ``texts``.

    Raises:
        OptionError: If they are too many.
    """
    taken = rows * texts.task.count_bytes(texts)
    if taken + _HEADER_BYTES > _LARGEST_ARRAY:
        raise OptionError(
            f"the answers of {rows:,} pruned models take {size_of(taken)}, and a comparison may hold "
            f"{size_of(_LARGEST_ARRAY)}; compare fewer methods, budgets or seeds, or lower --eval-limit or "
            "--eval-tokens"
        )


def write_arrays(answers: Mapping[str, Answers]) -> bytes:
    """Return the content of ``compare.npz``."""
    out = io.BytesIO()
    arrays = {f"{part}_{name}": array for part, one in answers.items() for name, array in one.items()}
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def read_arrays(path: Path, document: ComparisonDocument) -> dict[str, dict[str, Array]]:
    """Read the ``compare.npz`` of a document by part; empty where there is none.

    Raises:
        CahpError: If it is broken.
    """
    answers: dict[str, dict[str, Array]] = {}
    if not path.is_file():
        return answers
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                part, _, array = Path(name).stem.partition("_")
                answers.setdefault(part, {})[array] = _read_array(archive, name, part, array, document)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise CahpError(f"{path} is broken ({error}); remove it, or run `cahp compare` again") from error
    return answers


def _read_array(archive: zipfile.ZipFile, name: str, part: str, array: str, document: ComparisonDocument) -> Array:
    """Read one of the ``Answers`` on a part, the file ``name``; unpacks no more than the document announces."""
    if part not in document.parts or array not in _KINDS:
        raise ValueError("it holds an array that its comparison does not have")
    rows = 1
    if array not in _SINGLE:
        rows += max((result.row for cell in document.all_cells for result in cell.recoveries.values()), default=-1)
    columns = document.data.of(part).examples
    if document.protocols is not None:
        columns = document.protocols[part].tokens
    copied = array in ("copying", "copies")
    if copied:
        # Their number is that of the file.
        columns = _MOST_COPIES
    most = min(_LARGEST_ARRAY, _BYTES * rows * columns + _HEADER_BYTES)
    with archive.open(name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError("it is larger than its comparison")
    values = read_array(io.BytesIO(content), len(content)).reshape(rows, -1)
    if values.shape[1] > columns or (values.shape[1] < columns and not copied):
        raise ValueError("it is of another shape")
    if values.dtype.kind not in _KINDS[array]:
        raise ValueError("numbers of another kind")
    if array in _SINGLE:
        values = values[0]
    return values
