"""The machinery of a command: read its options, call it, print its result."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cahp import hub
from cahp import processes as parallel
from cahp.cli.options import OPTIONS, REQUIRED, Option, settings_of
from cahp.run.settings import Settings
from cahp.terminal import progress
from cahp.words import size_of

if TYPE_CHECKING:
    from cahp.output import Mark, Output
    from cahp.store import Store

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

    @property
    def store(self) -> Store:
        """The cache of results; with ``--no-cache`` it finds nothing."""
        from cahp.store import Store

        return Store(fresh=self.no_cache)

    def bars(self, *, lines: bool = False) -> AbstractContextManager[progress.Reporter]:
        """Progress on stderr; ``lines`` of long work are written also away from a terminal and beside JSON."""
        return progress.bars(quiet=self.quiet or (self.as_json and not lines), lines=lines)

    def answer(self, document: object, lines: Iterable[str]) -> None:
        """Print the result: as JSON with ``--json``, else as lines."""
        from cahp.files import json_text

        if parallel.first():
            typer.echo(json_text(document).rstrip() if self.as_json else "\n".join(lines))

    @contextmanager
    def answering(self, lines: Callable[[Any], Iterable[str]]) -> Iterator[None]:
        """Print the result that could not be written, before the error says so."""
        from cahp.output import UnwrittenError

        try:
            yield
        except UnwrittenError as error:
            if error.results is not None:
                self.answer(error.results, lines(error.results))
            raise


@dataclass(frozen=True)
class Command:
    """A command: its options in the order of its help, and the function behind it.

    ``do`` is called with a ``Call`` and, by name, the options that belong neither to ``Settings`` nor to the ``Call``.
    It may pass the options on that the use case takes by the same names. Its name is the name of the command, its
    docstring the help.
    """

    options: tuple[Option, ...]
    do: Callable[..., None]

    def __post_init__(self) -> None:
        _, *parameters = inspect.signature(self.do).parameters.values()
        passes_on = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
        taken = [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        if set(taken) - set(self._own) or (set(self._own) - set(taken) and not passes_on):
            raise TypeError(f"{self.name} takes {', '.join(taken)}, but has the options {', '.join(self._own)}")

    @property
    def name(self) -> str:
        """The word after ``cahp``."""
        return self.do.__name__

    @property
    def _own(self) -> list[str]:
        return [option.name for option in self.options if not option.fills and option.name not in _OF_CALL]

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """The settings of the options' values, by name.

        Raises:
            OptionError: If they are invalid.
        """
        values = {option.name: given[option.name] for option in self.options if option.fills}
        for name in ("label_map", "splits", "answers"):
            if name in values:
                values[name] = _parse(name, values[name])
        return Settings(**values)

    def add_to(self, app: typer.Typer) -> None:
        """Make this a command of ``app``."""

        def run(context: typer.Context, **given: Any) -> None:
            of_call = {name: given[name] for name in _OF_CALL if name in given}
            call = Call(self.settings(given), shlex.join(["cahp", *context.find_root().obj]), **of_call)
            with questions(yes=call.yes):
                self.do(call, **{name: given[name] for name in self._own})

        # Typer reads the options of a command from its signature, which is put together here.
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(option.parameter for option in self.options)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(self.name, help=self.do.__doc__)(run)


def command(*own: Option | str, of_call: Iterable[str] = _OF_CALL) -> Callable[[Callable[..., None]], Command]:
    """Decorator: a command with its ``own`` options, those of its settings and those ``of_call``.

    Options that must be given come first. An option of the table ``OPTIONS`` is given by its name.
    """
    chosen = [OPTIONS[option] if isinstance(option, str) else option for option in own]

    def make(do: Callable[..., None]) -> Command:
        first = [option for option in chosen if option.argument or option.default is REQUIRED]
        rest = [option for option in chosen if option not in first]
        settings = settings_of(do.__name__, without=[option.name for option in chosen])
        return Command((*first, *settings, *rest, *(OPTIONS[name] for name in of_call)), do)

    return make


def _parse(name: str, text: str) -> Any:
    """The value of an option whose text holds several words."""
    if not text:
        return () if name == "answers" else {}
    # Imported here because it takes time.
    from cahp.data import parse_answers, parse_label_map, parse_splits

    parsers: Mapping[str, Callable[[str], Any]] = {
        "label_map": parse_label_map,
        "splits": parse_splits,
        "answers": parse_answers,
    }
    return parsers[name](text)


@contextmanager
def questions(*, yes: bool) -> Iterator[None]:
    """Ask before a large download in a terminal; ``--yes`` answers yes. Without a terminal there is no question."""
    terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty() and parallel.world() == 1
    if not yes and not terminal:
        yield
        return

    def ask(name: str, size: int) -> bool:
        return yes or typer.confirm(f"cahp: {name} takes {size_of(size)} to download. Download it?", err=True)

    with hub.consent_from(ask):
        yield


@contextmanager
def folder(out: Path, force: bool) -> Iterator[Output]:
    """The folder ``out``, checked and made before long work, and removed again if the work fails."""
    from cahp.exports.run_folder import check_folder
    from cahp.output import Output

    new = False
    with suppress(OSError):  # An invalid name: the check says so.
        new = not out.exists()

    def check() -> Output:
        output = Output(out, force=force)
        check_folder(out)
        return output

    output = parallel.from_first(check)
    try:
        yield output
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()
        raise
    if output.note:
        typer.echo(f"cahp: {output.note}", err=True)


@contextmanager
def optional_folder(out: Path | None, force: bool, files: Iterable[str], mark: Mark) -> Iterator[Output | None]:
    """``folder``, checked for the ``files`` of somebody else; None without ``out``."""
    with nullcontext() if out is None else folder(out, force) as output:
        if output is not None:
            output.check_files(files, mark)
        yield output
