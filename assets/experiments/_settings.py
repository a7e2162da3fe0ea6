"""What scripts share: options that are fields of ``cahp.Settings``, the file of a result, and how it is printed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cahp
from cahp.files import json_text
from cahp.output import Mark, Output
from cahp.run.settings import describe


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str], **defaults: Any) -> None:
    """Add an option for each of the fields ``names``; ``defaults`` replace some of their defaults."""
    settings = describe()
    for name in names:
        setting = settings[name]
        words = setting.help.replace("{choices}", ", ".join(setting.choices))
        default = defaults.get(name, setting.default)
        parser.add_argument(
            setting.flag, type=setting.kind, default=default, help=f"{words} (default: {default})".replace("%", "%%")
        )


def read_settings(options: argparse.Namespace, names: Iterable[str]) -> cahp.Settings:
    """Return the settings with the values of their options.

    Raises:
        OptionError: If one is invalid.
    """
    return cahp.Settings(**{name: getattr(options, name) for name in names})


def check_file(file: Path | None, schema: str) -> Output | None:
    """Return the folder of a JSON file that may be written, checked before long work (None: no file was named).

    Raises:
        OptionError: If the file exists and holds no document of this schema, such as ``cahp.premise``.
    """
    if file is None:
        return None
    output = Output(file.parent)
    output.check_files([file.name], Mark(file.name, schema))
    return output


def print_result(document: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result: as JSON, or as lines."""
    if as_json:
        lines = [json_text(document).rstrip()]
    print(*lines, sep="\n")
