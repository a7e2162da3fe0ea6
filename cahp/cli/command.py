"""The machinery of a command: read its options, call it, print its result.

Options that fill a field of ``Settings`` are derived from the field.
"""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import typer

from cahp import hub
from cahp.files import is_there, json_text
from cahp.output import Mark, Output
from cahp.run.settings import Section, Setting, Settings, describe, flags, to_arguments, to_text
from cahp.store import Store
from cahp.terminal import progress
from cahp.values import Fields, JsonObject, Names, OptionError
from cahp.words import encodable

Made = TypeVar("Made")
#: The first argument of commands about a run.
PLACE = "run_or_model"
#: The default of an option that must be given.
REQUIRED: Any = ...


@dataclass(frozen=True)
class Option:
    """An option, or an argument, of a command.

    ``name`` is the parameter of the command that takes the value; with ``fills`` it is the field of ``Settings`` that
    takes it instead. Without ``flags``, an option is the name with two dashes (and ``--no-...`` for a flag). ``low``
    and ``high`` bound a number. ``section`` and ``common`` are those of ``Setting``.
    """

    name: str
    help: str
    kind: type = str
    default: Any = None
    flags: Names = ()
    low: float | None = None
    high: float | None = None
    fills: bool = False
    argument: bool = False
    section: Section = "Options"
    common: bool = True

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter from which Typer makes the option."""
        default = typer.Option(
            self.default,
            *self.flags,
            help=self.help,
            min=self.low,
            max=self.high,
            rich_help_panel=self.section,
            hidden=not self.common,
        )
        if self.argument:
            default = typer.Argument(
                self.default, help=self.help, metavar=self.name.upper(), rich_help_panel=self.section
            )
        return inspect.Parameter(self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=self.kind)

    def but(self, **changes: Any) -> Option:
        """The same option with changes for one command."""
        return replace(self, **changes)


def _of_setting(setting: Setting, flag: str) -> Option:
    kind = setting.kind
    default = setting.default
    if kind in (Mapping, Sequence):
        kind = str
        default = to_text(default)
    names = [flag]
    if kind is bool and default is not False:
        names = [f"{flag}/{flag.replace('--', '--no-', 1)}"]
    if setting.short:
        names.append(setting.short)
    return Option(
        setting.name,
        setting.help.replace("{choices}", ", ".join(setting.choices)),
        kind,
        default,
        tuple(names),
        fills=True,
        section=setting.section,
        common=setting.common,
    )


_OUTPUT: Section = "Output and machine"
#: Options that fill a setting or that more than one command takes, by name. The others are defined with their command.
OPTIONS = {
    option.name: option
    for option in (
        *(_of_setting(setting, setting.flag) for setting in describe().values()),
        Option(
            "mask",
            "A head mask: head_mask.json, .npy, .pt, .csv or .tsv, or heads_to_prune JSON (default: that of the run).",
            Path,
        ),
        Option(
            PLACE,
            "A run, which tells all that is not given: its folder, or one of its files. Or a model.",
            argument=True,
        ),
        Option("out", "Folder to write to.", Path, section=_OUTPUT),
        Option(
            "force",
            "Replace files in the folder of --out that cahp did not write; a model also replaces parts of another, and "
            "a mask may be that of another model.",
            bool,
            False,
            ("--force",),
            section=_OUTPUT,
            common=False,
        ),
        Option("batch", "Texts per batch.", int, 32, common=False),
        Option("epochs", "Epochs of training.", int),
        Option("learning_rate", "Highest learning rate.", float),
        Option("jobs", "Processes on this machine (default: one, or one per GPU).", int, low=1, high=1024),
        Option("cluster", "Run on a cluster: dask, or dask:ADDRESS of a scheduler.", common=False),
        Option("as_json", "Print JSON on stdout and nothing else there.", bool, False, ("--json",), section=_OUTPUT),
        Option(
            "yes",
            "Answer yes to questions: large downloads, and uploads.",
            bool,
            False,
            ("--yes", "-y"),
            section=_OUTPUT,
            common=False,
        ),
        Option("quiet", "Show no progress.", bool, False, ("--quiet", "-q"), section=_OUTPUT),
        Option(
            "no_cache", "Measure again what is cached.", bool, False, ("--no-cache",), section=_OUTPUT, common=False
        ),
    )
}
FORCE = OPTIONS["force"].but(help="Use a mask that was made for another model.")


# Commands ----------------------------------------------------------------------------------------------------


#: Options that become part of the ``Call``.
_OF_CALL = ("as_json", "yes", "quiet", "no_cache")


@dataclass(frozen=True)
class Call:
    """One call of a command: its settings, its command line, and how to print the result."""

    settings: Settings
    line: str
    as_json: bool = False
    quiet: bool = False
    no_cache: bool = False
    yes: bool = False
    #: The fields of the settings that the command takes.
    fields: Names = field(default=(), compare=False)

    @property
    def given(self) -> JsonObject:
        """The settings as keywords, for a use case that takes some fields as keywords with defaults of its own."""
        return {name: getattr(self.settings, name) for name in self.fields}

    @property
    def store(self) -> Store:
        """The cache of results; with ``--no-cache`` it finds nothing."""
        return Store(fresh=self.no_cache)

    def bars(self, *, lines: bool = False) -> AbstractContextManager[progress.Reporter]:
        """Progress on stderr; ``lines`` of long work are written also away from a terminal and beside JSON."""
        return progress.bars(quiet=self.quiet or (self.as_json and not lines), lines=lines)

    def run(self, use: Callable[..., Made], *given: Any, lines: bool = False, **options: Any) -> Made:
        """The result of a use case of ``cahp``, with the cache and the progress of this call; see ``bars``."""
        with self.bars(lines=lines) as reporter:
            return use(*given, **options, store=self.store, progress=reporter)

    def answer(self, document: object, lines: Iterable[str]) -> None:
        """Print the result: as JSON with ``--json``, else as lines."""
        text = json_text(document).rstrip() if self.as_json else "\n".join(lines)
        typer.echo(text)

    def wrote(self, line: str) -> None:
        """Print what was written after a result; the document is all of the output with ``--json``."""
        if not self.as_json:
            typer.echo(line)


def show_all(context: typer.Context, wanted: bool) -> None:
    """Print the help with all options, and exit."""
    if wanted:
        for parameter in context.command.params:
            parameter.hidden = False  # type: ignore[attr-defined]
        context.get_help()
        raise typer.Exit


@dataclass(frozen=True)
class Command:
    """A command: its options in the order of its help, and the function behind it.

    ``do`` is called with a ``Call`` and, by name, the options that belong neither to ``Settings`` nor to the ``Call``.
    It may pass the options on that the use case takes by the same names. Its name is the name of the command, its
    docstring the help, and ``example`` a command line that the help ends with. With ``passes_on``, all words after
    its first argument are arguments.
    """

    options: tuple[Option, ...]
    do: Callable[..., None]
    example: str
    passes_on: bool = False

    @property
    def name(self) -> str:
        """The word after ``cahp``."""
        return self.do.__name__

    def settings(self, given: Fields) -> Settings:
        """The settings of the options' values, by name.

        Raises:
            OptionError: If they are invalid.
        """
        values = {option.name: given[option.name] for option in self.options if option.fills}
        for name, value in values.items():
            if isinstance(value, str):
                values[name] = describe()[name].parse(value)
        return Settings(**values)

    def _complete(self, given: Fields, chosen: Collection[str]) -> Fields:
        """The values that a run tells instead of those ``given``, but not of the ``chosen`` ones; or the model.

        Raises:
            CahpError: If the run or the mask is broken.
        """
        # They read runs, which takes more than to print a help.
        from cahp.api.options import find_model, find_run

        place = given.get(PLACE)
        if place is None:
            if given.get("mask") is None or "model" in chosen:
                return {}
            return {"model": find_model(given["mask"])}
        run = find_run(place)
        if run is None:
            if "model" in chosen:
                raise OptionError(f"{place} and --model {given['model']} are two models; leave one of them out")
            return {"model": place}
        told = dict(run.tell(given, chosen))
        if not given.get("quiet"):
            flags = {name: describe()[name].flag for name in told if name != "model"}
            arguments = ["--model", {**given, **told}["model"], *to_arguments(run.settings, flags)]
            typer.echo(f"from {place}: {shlex.join(arguments)}", err=True)
        if "mask" in given and "mask" not in chosen:
            told["mask"] = run.mask
        return told

    def add_to(self, app: typer.Typer) -> None:
        """Make this a command of ``app``."""
        own = [option.name for option in self.options if not option.fills and option.name not in (*_OF_CALL, PLACE)]
        fields = tuple(option.name for option in self.options if option.fills)

        def run(context: typer.Context, **given: Any) -> None:
            sources = ((name, context.get_parameter_source(name)) for name in given)
            chosen = {name for name, source in sources if source is not None and source.name != "DEFAULT"}
            given |= self._complete(given, chosen)
            line = encodable(shlex.join(["cahp", *context.find_root().obj]))
            of_call = {name: given[name] for name in _OF_CALL if name in given}
            call = Call(self.settings(given), line, **of_call, fields=fields)
            with questions(yes=call.yes):
                self.do(call, **{name: given[name] for name in own})

        # Typer reads the options of a command from its signature, which is put together here.
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        help_all = inspect.Parameter(
            "help_all",
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(
                False, "--help-all", help="Show all options and exit.", is_eager=True, callback=show_all
            ),
            annotation=bool,
        )
        parameters = [context, *(option.parameter for option in self.options), help_all]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        notes = f"Example: {self.example}"
        if not all(option.common for option in self.options):
            notes += f"\n\nAll options: cahp {self.name} --help-all"
        app.command(
            self.name,
            context_settings={"allow_interspersed_args": not self.passes_on, "ignore_unknown_options": self.passes_on},
            help=self.do.__doc__,
            epilog=notes,
        )(run)


def command(
    *own: Option | str,
    example: str,
    of_call: Iterable[str] = _OF_CALL,
    passes_on: bool = False,
    settings_of: str | None = None,
) -> Callable[[Callable[..., None]], Command]:
    """Decorator: a command with its ``own`` options, those of its settings and those ``of_call``.

    The help ends with the ``example``. Options that must be given come first. The settings are those that the command
    ``settings_of`` takes (None: the command itself). An option of the table ``OPTIONS`` is
    given by its name.
    """
    chosen = [OPTIONS[option] if isinstance(option, str) else option for option in own]

    def make(do: Callable[..., None]) -> Command:
        first = [option for option in chosen if option.argument or option.default is REQUIRED]
        rest = [option for option in chosen if option not in first]
        named = {option.name for option in chosen}
        taken = flags(settings_of or do.__name__).items()
        settings = [_of_setting(describe()[name], flag) for name, flag in taken if name not in named]
        return Command((*first, *settings, *rest, *(OPTIONS[name] for name in of_call)), do, example, passes_on)

    return make


@contextmanager
def questions(*, yes: bool) -> Iterator[None]:
    """Ask before a large download or an upload in a terminal; ``--yes`` answers yes. Elsewhere there is no question."""
    terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    if not yes and not terminal:
        yield
        return

    def ask(question: str) -> bool:
        return yes or typer.confirm(f"cahp: {question}", err=True)

    with hub.consent_from(ask):
        yield


@contextmanager
def folder(out: Path, force: bool, files: Iterable[str] = (), mark: Mark | None = None) -> Iterator[Output]:
    """The folder ``out``, checked and made before long work, and removed again if the work fails.

    With a ``mark``, it is checked for ``files`` of somebody else.
    """
    new = is_there(out, lambda path: not path.exists())
    output = Output(out, force=force)
    output.check_writable()
    try:
        if mark is not None:
            output.check_files(files, mark)
        yield output
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()
        raise
    if output.note:
        typer.echo(f"cahp: {output.note}", err=True)


def optional_folder(
    out: Path | None, force: bool, files: Iterable[str], mark: Mark
) -> AbstractContextManager[Output | None]:
    """``folder``, or None without ``out``."""
    if out is None:
        return nullcontext()
    return folder(out, force, files, mark)


def optional_file(out: Path | None, force: bool) -> AbstractContextManager[Output | None]:
    """The folder of the new file ``out``, checked before long work; None without ``out``."""
    if out is None:
        return nullcontext()
    if is_there(out, Path.is_dir) or (is_there(out, Path.exists) and not force):
        raise OptionError(f"{out} exists; name a new file with --out, or add --force to replace a file")
    return folder(out.parent, force)
