"""A command: what is typed becomes ``Settings`` and a few values of the command's own, what is found is printed."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cahp import hub
from cahp import processes as parallel
from cahp.cli.options import OPTIONS, Option
from cahp.run.settings import Settings
from cahp.terminal import progress
from cahp.words import size_of

if TYPE_CHECKING:
    from cahp.output import Output
    from cahp.store import Store


@dataclass(frozen=True)
class Call:
    """One call of a command: the settings asked for, the line that was typed, and how to answer."""

    settings: Settings
    line: str
    as_json: bool = False
    quiet: bool = False
    no_cache: bool = False
    yes: bool = False

    @property
    def store(self) -> Store:
        """Where results are kept, and found again unless they are to be measured anew."""
        from cahp.store import Store

        return Store(fresh=self.no_cache)

    def bars(self) -> AbstractContextManager[progress.Reporter]:
        """Progress on stderr; none where JSON is printed."""
        return progress.bars(quiet=self.quiet or self.as_json)

    def answer(self, found: object, lines: Iterable[str]) -> None:
        """Print what was found, as JSON if so asked, else as lines."""
        from cahp.files import json_text

        if parallel.first():
            typer.echo(json_text(found).rstrip() if self.as_json else "\n".join(lines))

    @contextmanager
    def telling(self, lines: Callable[[Any], Iterable[str]]) -> Iterator[None]:
        """If what was found cannot be written, it is told all the same, before the sentence that says so."""
        from cahp.output import UnwrittenError

        try:
            yield
        except UnwrittenError as error:
            if error.results is not None:
                self.answer(error.results, lines(error.results))
            raise


#: Options that become a part of the ``Call``.
_ANSWERING = ("as_json", "quiet", "no_cache", "yes")


@dataclass(frozen=True)
class Command:
    """A command: its options, in the order of its help, and what it does.

    ``do`` is called with a ``Call`` and, by name, with what the options say that neither fill a setting nor say how to
    answer. Its name is what people type, its docstring the help.
    """

    options: tuple[Option, ...]
    do: Callable[..., None]

    def __post_init__(self) -> None:
        taken = list(inspect.signature(self.do).parameters)[1:]
        if sorted(taken) != sorted(self._own):
            raise TypeError(f"{self.name} takes {', '.join(taken)}, but has the options {', '.join(self._own)}")

    @property
    def name(self) -> str:
        """What is typed after ``cahp``."""
        return self.do.__name__

    @property
    def _own(self) -> list[str]:
        return [option.name for option in self.options if not option.fills and option.name not in _ANSWERING]

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """The settings that are asked for; ``given`` holds the options' values by name.

        Raises:
            OptionError: If they are impossible.
        """
        asked = {option.name: given[option.name] for option in self.options if option.fills}
        for name in ("label_map", "splits"):
            if not asked.get(name):
                asked.pop(name, None)
                continue
            from cahp.data import parse_label_map, parse_splits

            asked[name] = (parse_label_map if name == "label_map" else parse_splits)(asked[name])
        if "answers" in asked:
            from cahp.data import parse_answers

            asked["answers"] = parse_answers(asked["answers"])
        return Settings(**asked)

    def add_to(self, app: typer.Typer) -> None:
        """Make this a command of ``app``."""

        def run(context: typer.Context, **given: Any) -> None:
            answering = {name: given[name] for name in _ANSWERING if name in given}
            call = Call(self.settings(given), shlex.join(["cahp", *context.find_root().obj]), **answering)
            with questions(yes=call.yes):
                self.do(call, **{name: given[name] for name in self._own})

        # Typer reads a command's options from its signature, which is put together here from the table.
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *(option.parameter for option in self.options)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        app.command(self.name, help=self.do.__doc__)(run)


def command(*options: Option | str) -> Callable[[Callable[..., None]], Command]:
    """Decorator: a command with these options, in this order; those of the table by name."""
    chosen = tuple(OPTIONS[option] if isinstance(option, str) else option for option in options)
    return lambda do: Command(chosen, do)


@contextmanager
def questions(*, yes: bool) -> Iterator[None]:
    """Who is asked before much is fetched from the hub: nobody after ``--yes``, else the person at a terminal."""
    terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty() and parallel.world() == 1
    if not yes and not terminal:
        yield
        return

    def ask(what: str, size: int) -> bool:
        return yes or typer.confirm(f"cahp: {what} takes {size_of(size)} to fetch from the hub. Fetch it?", err=True)

    with hub.consent_from(ask):
        yield


@contextmanager
def folder(out: Path, force: bool) -> Iterator[Output]:
    """``out``, made if need be and proven writable before long work; removed again if the work made nothing."""
    from cahp.export.run_folder import check_folder
    from cahp.output import Output

    new = False
    with suppress(OSError):  # a name that no path can have: the check says so
        new = not out.exists()

    def looked_at() -> Output:
        output = Output(out, force=force)
        check_folder(out)
        return output

    output = parallel.from_first(looked_at)
    try:
        yield output
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()
        raise
    if output.note:
        typer.echo(f"cahp: {output.note}", err=True)
