"""Read the samples of lm-evaluation-harness (``--log_samples``): what each item of a task scored.

A file has one JSON object a line, for an item and a filter of the answers. ``metrics`` names the fields that hold
values; older versions of the harness do not write it, and all but the fields of every sample are values there. Most
values are numbers; a perplexity is a log-likelihood with the words or bytes that it is divided by.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from cahp.files import expanded, is_there
from cahp.values import DataError, OptionError
from cahp.words import first_line, printable

#: Items of a file, and bytes of one of them: the longest contexts of today take a few megabytes.
MOST_ITEMS = 200_000
_LONGEST_LINE = 1 << 24
#: Metrics of an item that are read.
_MOST_METRICS = 100
#: The fields of every sample that hold no value.
_FIELDS = frozenset(
    (
        *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
        *("doc_hash", "prompt_hash", "target_hash"),
    )
)
#: Metrics whose values are log-likelihoods with the numbers that they are divided by.
DIVIDED = ("word_perplexity", "byte_perplexity", "bits_per_byte")
#: Metrics whose values are log-likelihoods of one answer each.
LIKELIHOODS = ("perplexity",)


class Metric(NamedTuple):
    """A metric, and the filter of the answers that it is computed of."""

    name: str
    filter: str


class Value(NamedTuple):
    """What an item scored: a number, or a log-likelihood and the ``size`` that it is divided by (1 of a number)."""

    number: float
    size: float = 1.0


@dataclass(frozen=True)
class SampleItem:
    """One item: digests of its prompt and of its right answer (empty: not recorded), and its values by metric."""

    prompt: str
    target: str
    values: dict[Metric, Value]


@dataclass(frozen=True, eq=False)
class Samples:
    """The items of one run on one task, by what identifies them.

    ``by_digest`` tells that this is the digest of the document, and the number of documents before it that are the
    same; otherwise it is the document's number. ``unread`` are metrics whose values are neither numbers nor
    log-likelihoods.
    """

    name: str
    items: Mapping[tuple[str, int], SampleItem]
    by_digest: bool
    unread: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.items)


def read_file(path: Path) -> Samples:
    """Read a file of samples.

    Raises:
        OptionError: If there is no such file.
        DataError: If it holds no samples; the message names the first line that cannot be read.
    """
    path = expanded(path)
    if not is_there(path, Path.is_file):
        raise OptionError(f"there is no file {path}; name a samples_*.jsonl file of lm-evaluation-harness")
    try:
        with path.open("rb") as file:
            return read_lines(path.name, file)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error


def read_lines(name: str, file: BinaryIO) -> Samples:
    """Read the samples in an open file; see ``read_file``."""
    return read_samples(name, _parse_lines(name, file))


def _parse_lines(name: str, file: BinaryIO) -> Iterator[Mapping[str, Any]]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise _line_error(name, number, f"is longer than {_LONGEST_LINE:,} bytes")
        if number > MOST_ITEMS:
            raise DataError(f"{name} has more than {MOST_ITEMS:,} lines; compare a part of it")
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _line_error(name, number, f"is not JSON ({first_line(error)})") from error
        if not isinstance(sample, dict) or not ("doc_id" in sample or isinstance(sample.get("metrics"), list)):
            raise _line_error(name, number, "is no sample")
        yield sample


def _line_error(name: str, number: int, problem: str) -> DataError:
    return DataError(
        f"{name}, line {number}: {problem}; give a samples_*.jsonl file that lm-evaluation-harness wrote with "
        "--log_samples"
    )


def read_samples(name: str, samples: Iterable[Mapping[str, Any]]) -> Samples:
    """Read samples as the harness returns them, one for each item and filter.

    Raises:
        DataError: If there is none, or none has a value.
    """
    rows = list(map(_shorten, samples))
    if not rows:
        raise DataError(f"{name} has no items; run the task again with --log_samples")
    by_digest = all(row.digest for row in rows)
    items: dict[tuple[str, int], SampleItem] = {}
    seen = Counter[tuple[str, Metric]]()
    unread: dict[str, None] = {}
    for row in rows:
        unread |= dict.fromkeys(row.unread)
        for metric, value in row.values.items():
            identity = row.number
            if by_digest:
                identity = row.digest
            # Of equal documents the first belongs to the first of the other run.
            key = identity, seen[identity, metric]
            seen[identity, metric] += 1
            item = items.setdefault(key, SampleItem(row.prompt, row.target, {}))
            item.values[metric] = value
    if not items:
        raise DataError(
            f"{name} has {len(rows):,} lines, and none holds a finite number for a metric ({_list(unread)}); only "
            "metrics with a number for each item can be compared"
        )
    return Samples(name, items, by_digest, tuple(unread))


def _list(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:20]) or "no metric is named"


class _Row(NamedTuple):
    """What is kept of one line."""

    number: str
    digest: str
    prompt: str
    target: str
    values: dict[Metric, Value]
    unread: tuple[str, ...]


def _shorten(sample: Mapping[str, Any]) -> _Row:
    document, prompt, target, answers = (
        _as_digest(sample.get(name)) for name in ("doc_hash", "prompt_hash", "target_hash", "filter")
    )
    values: dict[Metric, Value] = {}
    unread: list[str] = []
    names = sample.get("metrics")
    if not isinstance(names, list):
        names = [name for name in sample if name not in _FIELDS]
    for name in names[:_MOST_METRICS]:
        if not isinstance(name, str):
            continue
        value = _read_value(name, sample.get(name))
        shown = printable(name[:100])
        if value is None:
            unread.append(shown)
        else:
            values[Metric(shown, answers)] = value
    return _Row(str(sample.get("doc_id", ""))[:100], document, prompt, target, values, tuple(unread))


def _as_digest(given: object) -> str:
    if isinstance(given, str):
        return printable(given[:200])
    return ""


def _read_value(name: str, given: object) -> Value | None:
    """Return a finite value (None: it is none)."""
    if isinstance(given, Sequence) and not isinstance(given, str) and name in DIVIDED and len(given) == 2:
        number, size = map(_as_number, given)
        if number is None or size is None or size <= 0:
            return None
        return Value(number, size)
    number = _as_number(given)
    if number is None:
        return None
    return Value(number)


def _as_number(given: object) -> float | None:
    if not isinstance(given, bool | int | float):
        return None
    try:
        number = float(given)
    except OverflowError:
        return None
    if math.isfinite(number):
        return number
    return None
