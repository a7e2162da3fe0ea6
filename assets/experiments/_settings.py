"""Options of scripts that are fields of ``cahp.Settings``, with the words and the defaults that these have."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

import cahp
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
