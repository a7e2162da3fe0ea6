"""The options of the command line; those that fill a field of ``Settings`` are derived from the field."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from cahp.run.command_line import flags, to_text
from cahp.run.option import Setting
from cahp.run.settings import Settings, describe

#: The default of an option that must be given.
REQUIRED: Any = ...


@dataclass(frozen=True)
class Option:
    """An option, or an argument, of a command.

    ``name`` is the parameter of the command that takes the value; with ``fills`` it is the field of ``Settings`` that
    takes it instead. Without ``flags``, an option is the name with two dashes (and ``--no-...`` for a flag). ``low``
    and ``high`` bound a number.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    flags: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    fills: bool = False
    argument: bool = False

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter from which Typer makes the option."""
        default = (
            typer.Argument(self.default, help=self.help)
            if self.argument
            else typer.Option(self.default, *self.flags, help=self.help, min=self.low, max=self.high)
        )
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=self.kind)

    def but(self, **changes: Any) -> Option:
        """The same option with changes for one command."""
        return replace(self, **changes)


def _of_setting(setting: Setting, flag: str) -> Option:
    kind = setting.kind if setting.kind in (bool, int) else str
    both = f"{flag}/{flag.replace('--', '--no-', 1)}" if setting.default is True else flag
    return Option(
        setting.name,
        setting.help.replace("{choices}", ", ".join(setting.choices)),
        kind,
        to_text(setting.default) if setting.kind in (Mapping, Sequence) else setting.default,
        (both, *([setting.short] if setting.short else [])),
        fills=True,
    )


def settings_of(command: str, *, without: Iterable[str] = (), settings: type[Settings] = Settings) -> list[Option]:
    """The options of a command that fill a field of ``Settings``, in the order of the fields."""
    described = describe(settings)
    return [
        _of_setting(described[name], flag) for name, flag in flags(command, settings).items() if name not in without
    ]


#: Options that fill a setting or that more than one command takes, by name. The others are defined with their command.
OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        *(_of_setting(setting, setting.flag) for setting in describe().values()),
        Option("mask", "A head mask: head_mask.json, .npy or .pt, or heads_to_prune JSON.", Path, REQUIRED),
        Option("out", "Folder to write to.", Path),
        Option("force", "Replace files in the folder of --out that cahp did not write.", bool, False, ("--force",)),
        Option("batch", "Texts per batch.", int, 32, low=1, high=1024),
        Option("epochs", "Epochs of training.", int, low=1, high=1000),
        Option("learning_rate", "Highest learning rate.", float, low=1e-7, high=1.0),
        Option("jobs", "Processes on this machine (default: one, or one per GPU).", int, low=1, high=1024),
        Option("cluster", "dask, or dask:ADDRESS of a scheduler."),
        Option("as_json", "Print JSON on stdout and nothing else there.", bool, False, ("--json",)),
        Option("yes", "Download large files from the hub without asking.", bool, False, ("--yes", "-y")),
        Option("quiet", "Show no progress.", bool, False, ("--quiet", "-q")),
        Option("no_cache", "Measure again what is cached.", bool, False, ("--no-cache",)),
    )
}
