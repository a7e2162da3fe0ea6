"""How settings are written down: as the options of a command, and as a line of Python.

The command line takes the names of its options from here, so what is written is what it reads.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

from cahp.run.settings import MOST, Settings


def option(field: str) -> str:
    """The option that fills a field of ``Settings``, such as ``--eval-limit``."""
    return f"--{field.replace('_', '-')}"


#: How the tables of the data are read.
COLUMNS = ("text_column", "pair_column", "label_column", "splits")
PROMPT = ("prompt", "answers")

#: The fields of ``Settings`` that ``cahp prune`` is asked, in the order of its help, and its options for them.
PRUNE: Mapping[str, str] = {
    field: option(field)
    for field in (
        *("model", "data", "method", "limit", "sample", "select_split", "eval_split", "eval_limit", "budget"),
        *("min_per_layer", "pool_size", "poly_degree", "projection", "salience", "representative", "recover"),
        *("recover_data", "recover_time", "labels", "report", "seed", "device", "precision", "latency_time"),
        *(*COLUMNS, "label_map"),
        *PROMPT,
    )
}

#: The same of ``cahp evaluate``, which takes texts for one purpose only.
EVALUATE: Mapping[str, str] = {
    "model": "--model",
    "data": "--data",
    "eval_split": "--split",
    "eval_limit": "--limit",
    **{field: option(field) for field in ("sample", "seed", "device", "precision", *COLUMNS, "label_map", *PROMPT)},
}


def words(settings: Settings, options: Mapping[str, str]) -> list[str]:
    """The options, and their values, that ask for these settings; what is as it usually is goes without saying."""
    # A flag that is not as usual is on.
    return [
        word
        for field, value in _changed(settings, options)
        for word in ((options[field],) if value is True else (options[field], written(value)))
    ]


def call(settings: Settings, fields: Iterable[str]) -> str:
    """The same in Python: ``Settings(budget='5')``."""
    said = ", ".join(
        f"{field}={dict(value) if isinstance(value, Mapping) else value!r}"
        for field, value in _changed(settings, fields)
    )
    return f"Settings({said})"


def written(value: object) -> str:
    """The value of a setting as an option takes it."""
    if isinstance(value, Mapping):
        return label_map(value)
    if isinstance(value, tuple):
        return listed(value)
    # All texts: more than there can be.
    return str(MOST if value is None else value)


def label_map(pairs: Mapping[str, str]) -> str:
    """Data label to model label as ``--label-map`` takes it; ``cahp.data.parse_label_map`` reads it again.

    File to split, as ``--splits`` takes it, is written in the same way.
    """
    return listed(f"{ours}={theirs}" for ours, theirs in pairs.items())


def listed(parts: Iterable[str]) -> str:
    """Words with commas between them, as ``cahp.data.parse_list`` reads them again."""
    line = io.StringIO()
    # With an end of line that is cut off again: without one, some versions quote no line break inside a label.
    csv.writer(line, lineterminator="\r\n").writerow(list(parts))
    return line.getvalue().removesuffix("\r\n")


def _changed(settings: Settings, fields: Iterable[str]) -> list[tuple[str, Any]]:
    usual = Settings()
    return [(field, value) for field in fields if (value := getattr(settings, field)) != getattr(usual, field)]
