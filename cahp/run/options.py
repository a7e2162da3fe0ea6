"""What an option is: its kind, bounds and words, and how a value becomes one that a field of the settings holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal, NamedTuple

from cahp.goals import Goal
from cahp.run.mix import Mix
from cahp.stages.selection import read_budget
from cahp.values import OptionError


class Bounds(NamedTuple):
    """The lowest and the highest value of a number."""

    low: float
    high: float


#: The bounds of numbers that are no settings: of options, and of the keywords of the same names in Python.
BOUNDS: Mapping[str, Bounds] = {
    "batch": Bounds(1, 1024),
    "epochs": Bounds(1, 1000),
    "learning_rate": Bounds(1e-7, 1.0),
    "rank": Bounds(1, 256),
    "length": Bounds(2, 1 << 20),
    "repeats": Bounds(1, 10_000),
}


@dataclass(frozen=True)
class Setting:
    """The description of one field of ``Settings``.

    ``kind`` is ``bool``, ``int``, ``float``, ``str``, ``Mapping`` (of words) or ``Sequence`` (of words); with
    ``optional`` the value may be None. ``help`` is one sentence, in which ``{choices}`` stands for the words that it
    may be. ``low`` and ``high`` bound a number. The ``unit`` ``heads`` or ``duration`` is a text that may also be given
    as a number, of heads or of seconds; ``goal`` is the text of a ``cahp.goals.Goal``, and ``mix`` that of a
    ``cahp.run.mix.Mix``. ``commands`` take it. With ``link`` it travels in a link to the explorer: as part of the
    ``source`` of the texts, or as a ``choice``.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    help: str
    short: str = ""
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float | None = None
    unit: Literal["", "heads", "duration", "goal", "mix"] = ""
    commands: frozenset[str] = frozenset()
    link: Literal["", "source", "choice"] = ""

    @property
    def flag(self) -> str:
        """Its option on the command line, such as ``--eval-limit``."""
        return f"--{self.name.replace('_', '-')}"

    def convert(self, value: object) -> Any:
        """``value`` as the field holds it.

        Raises:
            OptionError: If the field cannot hold it.
        """
        if value is None and self.optional:
            return None
        converted = self._of_kind(value)
        if self.choices and converted not in self.choices:
            raise OptionError(f"{self.flag} {converted} is unknown; choose one of {', '.join(self.choices)}")
        if self.kind in (int, float):
            self._check_range(converted)
        if self.unit == "duration":
            parse_duration(converted, self.flag)
        if self.unit == "heads":
            read_budget(converted)
        if self.unit == "mix":
            Mix.parse(converted)
        if self.unit == "goal":
            return str(Goal.parse(converted))
        return converted

    def _check_range(self, number: float) -> None:
        if self.high is None:
            inside = self.low <= number
            span = f"at least {self.low}"
        else:
            inside = self.low <= number <= self.high
            span = f"in {self.low}..{self.high}"
        if not inside:
            raise OptionError(f"{self.flag} {number} is out of range; it must be {span}")

    def _of_kind(self, value: object) -> Any:
        number = isinstance(value, Real) and not isinstance(value, bool)
        if self.kind is bool and isinstance(value, bool):
            return value
        if self.kind is int and number and isinstance(value, Integral):
            return int(value)
        if self.kind is float and number:
            return float(value)  # type: ignore[arg-type]
        if self.kind is str and isinstance(value, str | PathLike):
            return str(value)
        if self.unit == "heads" and number and isinstance(value, Integral):
            return str(int(value))
        if self.unit == "duration" and number:
            return f"{value}s"
        if self.kind is Mapping and isinstance(value, Mapping):
            if all(isinstance(word, str) for word in (*value, *value.values())):
                return dict(value)
        elif self.kind is Sequence and isinstance(value, Iterable) and not isinstance(value, str):
            words = tuple(value)
            if all(isinstance(word, str) for word in words):
                return words
        raise OptionError(f"{self.flag} must be {_UNITS.get(self.unit, _KINDS[self.kind])}, not {value!r:.60}")


_KINDS: Mapping[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    Mapping: "a mapping from words to words",
    Sequence: "a list of words",
}


_UNITS: Mapping[str, str] = {
    "heads": 'auto, a number of heads (26) or a share ("15%")',
    "duration": 'a number of seconds or a text such as "2m"',
}


def option(default: Any, help: str, also: str = "", **rest: Any) -> Any:
    """A field for an option that ``cahp prune`` takes, and ``also`` these commands; see ``Setting``."""
    metadata = {"help": help, "commands": frozenset(("prune", *also.split())), **rest}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


_DURATION = re.compile(r"(?P<count>[0-9]+(?:\.[0-9]+)?)(?P<unit>[smh]?)")


_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str, flag: str = "--recover-time") -> float:
    """The seconds of ``90``, ``90s``, ``2m`` or ``1.5h``, the value of the option ``flag``.

    Raises:
        OptionError: If it is no duration, or longer than 30 days.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not 0 < (seconds := float(match["count"]) * _SECONDS[match["unit"]]) <= 30 * 24 * 3600:
        raise OptionError(f'{flag}: invalid duration "{text}"; write 90s, 2m or 1h')
    return seconds
