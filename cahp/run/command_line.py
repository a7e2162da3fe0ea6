"""Settings as the options of a command.

The command line takes its options from here, so it reads what is written.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from cahp.run.settings import MOST, Settings, describe

#: ``cahp evaluate`` needs texts for one purpose only, so its options are shorter.
_SHORTER = {("evaluate", "eval_split"): "--split", ("evaluate", "eval_limit"): "--limit"}


def flags(command: str) -> dict[str, str]:
    """The options of ``cahp COMMAND`` that fill a field of ``Settings``, by field."""
    return {
        name: _SHORTER.get((command, name), setting.flag)
        for name, setting in describe().items()
        if command in setting.commands
    }


def to_arguments(settings: Settings, options: Mapping[str, str]) -> list[str]:
    """The arguments that give these settings by ``options`` (option by field); defaults are omitted."""
    arguments: list[str] = []
    for name, option in options.items():
        value = getattr(settings, name)
        if value == describe()[name].default:
            continue
        if value is False:
            arguments.append(option.replace("--", "--no-", 1))
        elif value is True:
            arguments.append(option)
        else:
            arguments += [option, to_text(value)]
    return arguments


def to_text(value: object) -> str:
    """The value of a setting as an option takes it."""
    if value is None:
        return str(MOST)
    if isinstance(value, Mapping):
        return join_pairs(value)
    if isinstance(value, tuple):
        return join_words(value)
    return str(value)


def join_pairs(pairs: Mapping[str, str]) -> str:
    """``a=b,c=d``, as ``--label-map`` and ``--splits`` take it and ``cahp.data`` parses it."""
    return join_words(f"{left}={right}" for left, right in pairs.items())


def join_words(words: Iterable[str]) -> str:
    """Words with commas between them, quoted where needed; ``cahp.data.parse_list`` parses it."""
    line = io.StringIO()
    # With an end of line that is cut off again: without one, some versions quote no line break inside a label.
    csv.writer(line, lineterminator="\r\n").writerow(list(words))
    return line.getvalue().removesuffix("\r\n")
