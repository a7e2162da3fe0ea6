"""The pages of ``assets/docs/look-up`` as far as the code says what stands there: commands, options, Python, files."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import click
import typer

import cahp
from cahp import cli, features
from cahp.comparison.document import ComparisonDocument
from cahp.run.document import RunDocument
from cahp.run.settings import Section, Settings, describe

GROUP: click.Group = typer.main.get_command(cli.app)  # type: ignore[assignment]
COMMANDS: Mapping[str, Any] = GROUP.commands
_OWN, *_SHARED = typing.get_args(Section)
#: The order of the sections of options: those of single commands come last.
_SECTIONS = (*_SHARED, _OWN)


def table(head: str, rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a table; ``head`` holds the names of its columns."""
    columns = head.count("|") + 1
    return [f"| {head} |", "|" + "---|" * columns, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _options(command: Any) -> list[Any]:
    """Return the options of a command, without those that print its help."""
    return [one for one in command.params if one.param_type_name == "option" and "help" not in one.name]


def _spell(option: Any) -> str:
    names = sorted([*option.opts, *option.secondary_opts], key=lambda name: (not name.startswith("--"), name))
    return ", ".join(f"`{name}`" for name in names)


def describe_commands() -> list[str]:
    """Describe each command: its help, its arguments, its example, and the names of its options."""
    lines = []
    for name, command in COMMANDS.items():
        example, *_ = command.epilog.removeprefix("Example: ").split("\n\n")
        lines += [f"## `cahp {name}`", "", *inspect.cleandoc(command.help).replace("``", "`").splitlines(), ""]
        lines += ["```text", example, "```", ""]
        for one in command.params:
            if one.param_type_name == "argument":
                lines.append(f"- argument `{one.name.upper()}`: {_cell(one.help)}")
        for words, hidden in (("options", False), ("options in `--help-all`", True)):
            names = [f"`{one.opts[0]}`" for one in _options(command) if one.hidden == hidden]
            if names:
                lines.append(f"- {words}: {', '.join(names)}")
        lines.append("")
    return lines[:-1]


def _default(option: Any) -> str:
    if option.default in (None, False, "", ...) or callable(option.default):
        return ""
    if option.default is True:
        return "on"
    return f"`{option.default}`"


def list_options() -> list[str]:
    """List each option once, by section, with the commands that take it."""
    rows: dict[str, dict[tuple[str, str, str], list[str]]] = {section: {} for section in _SECTIONS}
    for name, command in COMMANDS.items():
        for one in _options(command):
            key = (_spell(one), _cell(one.help), _default(one))
            rows[one.rich_help_panel or "Options"].setdefault(key, []).append(f"`{name}`")
    lines = []
    for section, options in rows.items():
        title = section.replace("Options", "Of single commands")
        head = "option | what it does | default | commands"
        ordered = sorted(options.items(), key=lambda row: [one[0] for one in options].index(row[0][0]))
        lines += [f"## {title}", "", *table(head, ((*key, ", ".join(names)) for key, names in ordered)), ""]
    return lines[:-1]


def _markdown(documented: object) -> list[str]:
    """Return a docstring as Markdown: its parts become lists."""
    text = re.sub(r"``(.+?)``", r"`\1`", inspect.getdoc(documented) or "", flags=re.DOTALL)
    # Docstrings that are put together have their parts further in than the rest.
    start, mark, rest = text.partition("\n    Args:")
    lines = [*start.splitlines(), *inspect.cleandoc(mark + rest).splitlines()]
    shown: list[str] = []
    part = ""
    for line in lines:
        if re.fullmatch(r"(Args|Returns|Raises|Attributes):", line):
            part = line
            shown += [""] * bool(shown[-1]) + [f"**{line.rstrip(':')}**", ""]
        elif part in ("Args:", "Raises:", "Attributes:") and re.match(r" {4}[\w*`].*?: ", line):
            name, _, words = line.strip().partition(": ")
            shown.append(f"- `{name}`: {words}")
        elif part and line.startswith(" "):
            indent = "  " if part != "Returns:" else ""
            shown.append(indent + line.strip())
        else:
            shown.append(line)
    return shown


def _signature(name: str, function: Any) -> str:
    """Return a call with its parameters; fields of the settings that its docstring leaves out are ``**options``."""
    documented = re.findall(r"^ +([\w, ]+): ", str(inspect.getdoc(function)), re.MULTILINE)
    named = set(", ".join(documented).split(", "))
    taken: list[str] = []
    rest = ""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD or (parameter.name in describe() and parameter.name not in named):
            rest = ", **options"
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in taken:
            taken.append("*")
        default = ""
        if parameter.default is not parameter.empty:
            # Functions and places differ from machine to machine.
            plain = parameter.default is None or isinstance(parameter.default, (str, int, float, tuple))
            default = f"={parameter.default!r}" if plain else "=..."
        taken.append(f"{parameter.name}{default}")
    return f"cahp.{name}({', '.join(taken)}{rest})"


def _members(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the public methods and properties of a class, each with the first line of its docstring."""
    for name, member in inspect.getmembers(kind):
        documented = inspect.getdoc(member)
        if name.startswith("_") or not documented or isinstance(member, type):
            continue
        if isinstance(member, property) or callable(member):
            call = "" if isinstance(member, property) else "()"
            yield f"`{name}{call}`", _cell(documented.splitlines()[0].replace("``", "`"))


def describe_python() -> list[str]:
    """Describe each public name: functions by their docstrings, classes also with their members."""
    lines = ["## Functions", ""]
    for name in dir(cahp):
        if not isinstance(getattr(cahp, name), type):
            function = getattr(cahp, name)
            lines += [f"### `cahp.{name}`", "", "```text", _signature(name, function), "```", ""]
            lines += [*_markdown(function), ""]
    lines += ["## Classes", ""]
    for name in dir(cahp):
        kind = getattr(cahp, name)
        if isinstance(kind, type):
            lines += [f"### `cahp.{name}`", "", *_markdown(kind), ""]
            members = list(_members(kind))
            if members and not issubclass(kind, Exception):
                lines += [*table("member | what it is", members), ""]
    lines += ["## Methods of your own", ""]
    for kind in (cahp.methods.Method, cahp.methods.Evidence):
        lines += [f"### `cahp.methods.{kind.__name__}`", "", *_markdown(kind), ""]
        lines += [*table("member | what it is", _members(kind)), ""]
    lines += ["### `cahp.methods.register(method)`", "", *_markdown(cahp.methods.register), ""]
    lines += ["## Fields of `cahp.Settings`", ""]
    rows = []
    for name, one in describe().items():
        words = one.help.replace("{choices}", ", ".join(one.choices))
        rows.append((f"`{name}`", f"`{one.default!r}`", f"`{one.flag}`", _cell(words)))
    return [*lines, *table("field | default | option | what it does", rows)]


def _records(kind: type, seen: list[type]) -> None:
    """Add a dataclass, and those that its fields hold, to those ``seen``."""
    if kind in seen or not is_dataclass(kind) or not kind.__module__.startswith("cahp"):
        return
    seen.append(kind)
    try:
        hints = typing.get_type_hints(kind)
    except NameError:
        return
    for entry in fields(kind):
        open_types: list[Any] = [hints[entry.name]]
        while open_types:
            one = open_types.pop(0)
            open_types += typing.get_args(one)
            if isinstance(one, type):
                _records(one, seen)


def _name_type(hint: object) -> str:
    """Return the type of a field as its module spells it, whether its annotations are evaluated there or not."""
    if isinstance(hint, type) and not typing.get_args(hint):
        hint = hint.__name__
    return _cell(re.sub(r"\b(\w+\.)+(?=\w)", "", str(hint)))


def describe_records(*kinds: type) -> list[str]:
    """Describe files of JSON: the fields of each record, and the records inside them."""
    seen: list[type] = []
    for kind in kinds:
        _records(kind, seen)
    lines = []
    for kind in seen:
        if kind is Settings:
            # They have a table of their own on the page of Python.
            continue
        lines += [f"### `{kind.__name__}`", "", *_markdown(kind), ""]
        rows = ((f"`{entry.name}`", f"`{_name_type(entry.type)}`") for entry in fields(kind))
        lines += [*table("field | type", rows), ""]
    return lines[:-1]


def describe_run() -> list[str]:
    """Describe ``run.json``, and what measures add to it."""
    added = [one for one in features.measures() if is_dataclass(one.record)]
    rows = ((f"`{one.name}`", one.record.__name__, _cell(one.help)) for one in added)
    head = "field that a measure adds | record | what it measures"
    kinds: Sequence[type] = [RunDocument, *(one.record for one in added)]
    return [*table(head, rows), "", *describe_records(*kinds)]


def describe_comparison() -> list[str]:
    """Describe ``compare.json``, without what ``run.json`` has, too."""
    of_runs: list[type] = []
    _records(RunDocument, of_runs)
    own: list[type] = []
    _records(ComparisonDocument, own)
    return describe_records(*(kind for kind in own if kind not in of_runs))
