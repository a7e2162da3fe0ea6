"""The options of the command line: one table, from which every command takes its own.

An option that fills a field of ``Settings`` has the field's name and default, and is spelled as
``cahp.run.command_line`` writes it, so that a command line which is shown is a command line that can be typed.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from cahp.run.command_line import flags, to_text
from cahp.run.settings import Setting, Settings, describe

#: The default of an option that must be given.
REQUIRED: Any = ...


@dataclass(frozen=True)
class Option:
    """An option, or an argument, of a command.

    ``name`` is that of the parameter which takes its value, ``fills`` whether it goes into the field of ``Settings`` of
    that name instead. Without ``spelled``, an option is the name with two dashes (and ``--no-...`` for a flag). ``low``
    and ``high`` bound a number.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    spelled: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    fills: bool = False
    argument: bool = False

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter from which Typer makes the option."""
        made = (
            typer.Argument(self.default, help=self.help)
            if self.argument
            else typer.Option(self.default, *self.spelled, help=self.help, min=self.low, max=self.high)
        )
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=made, annotation=self.kind)

    def but(self, **changes: Any) -> Option:
        """The same, but for what a command says otherwise."""
        return replace(self, **changes)


def _of_setting(setting: Setting, flag: str) -> Option:
    """The option that fills a field of ``Settings``, with the field's default; ``Settings`` checks the value."""
    kind = setting.kind if setting.kind in (bool, int) else str
    spelled = f"{flag}/{flag.replace('--', '--no-', 1)}" if setting.default is True else flag
    return Option(
        setting.name,
        setting.help.replace("{choices}", ", ".join(setting.choices)),
        kind,
        to_text(setting.default) if setting.kind in (Mapping, Sequence) else setting.default,
        (spelled, *([setting.short] if setting.short else [])),
        fills=True,
    )


def settings_of(command: str, *, without: Iterable[str] = (), settings: type[Settings] = Settings) -> list[Option]:
    """The options of a command that fill a field of ``Settings``, in the order of the fields."""
    described = describe(settings)
    return [
        _of_setting(described[name], flag) for name, flag in flags(command, settings).items() if name not in without
    ]


#: Options that more than one command takes, or that fill a setting. What a command alone takes stands in its file.
OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        *(_of_setting(setting, setting.flag) for setting in describe().values()),
        Option("mask", "A head mask: head_mask.json, .npy or .pt, or heads_to_prune JSON.", Path, REQUIRED),
        Option("out", "The folder to write to.", Path),
        Option("force", "Replace files in the folder of --out that cahp did not write.", bool, False, ("--force",)),
        Option("batch", "Texts a batch.", int, 32, low=1, high=1024),
        Option("epochs", "Epochs of training.", int, 3, low=1, high=100),
        Option("learning_rate", "Highest learning rate.", float, 2e-5, low=1e-7, high=1.0),
        Option("as_json", "Print JSON on stdout and nothing else there.", bool, False, ("--json",)),
        Option("yes", "Fetch what is large from the hub without a question.", bool, False, ("--yes", "-y")),
        Option("quiet", "No progress bars.", bool, False, ("--quiet", "-q")),
        Option("no_cache", "Measure anew what an earlier run has measured.", bool, False, ("--no-cache",)),
    )
}
