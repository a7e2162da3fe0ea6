"""``cahp experiment``: the experiments about methods, each a script in ``assets/experiments``."""

import ast
import runpy
import sys
from pathlib import Path

import typer

from cahp import models
from cahp.cli.command import Call, Option, command
from cahp.values import OptionError, check_known

_ARGUMENTS = Option(
    "arguments", "What the experiment takes; see `cahp experiment NAME --help`.", list[str], argument=True
)


@command(
    Option("name", "The experiment (default: list all).", argument=True),
    _ARGUMENTS,
    of_call=(),
    passes_on=True,
    example="cahp experiment quick_refits --help",
)
def experiment(call: Call, name: str | None, arguments: list[str] | None) -> None:
    """Run an experiment about methods, or list all.

    Each is a script that may be copied and changed.
    """
    scripts = find_scripts()
    if name is None:
        for script, file in scripts.items():
            typer.echo(f"{script:<20}  {read_title(file)}")
        return
    check_known("experiment", name, scripts)
    code = run_script(scripts[name], arguments or [])
    if code:
        raise typer.Exit(code)


@command(
    _ARGUMENTS.but(help="What it takes; see `cahp experiment reproduce --help`."),
    of_call=(),
    passes_on=True,
    example="cahp reproduce --estimate --out paper",
)
def reproduce(call: Call, arguments: list[str] | None) -> None:
    """Repeat the published experiment.

    The same as `cahp experiment reproduce`.
    """
    experiment.do(call, "reproduce", arguments)


@command(
    _ARGUMENTS.but(help="What it takes; see `cahp experiment chat --help`."),
    of_call=(),
    passes_on=True,
    example="cahp chat cahp-run",
)
def chat(call: Call, arguments: list[str] | None) -> None:
    """Talk to a pruned language model, beside the model with all heads."""
    experiment.do(call, "chat", arguments)


def find_scripts() -> dict[str, Path]:
    """Find the scripts by name; a module that scripts share begins with an underscore."""
    files = sorted((models.assets() / "experiments").glob("*.py"))
    return {file.stem: file for file in files if not file.stem.startswith("_")}


def read_title(file: Path) -> str:
    """Read the first line of a script's docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def run_script(file: Path, arguments: list[str]) -> int:
    """Run a script as Python does, with the modules beside it, and return its exit code."""
    before = sys.argv
    sys.argv = [str(file), *arguments]
    sys.path.insert(0, str(file.parent))
    try:
        runpy.run_path(str(file), run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            raise OptionError(end.code) from None
        return end.code or 0
    finally:
        sys.path.remove(str(file.parent))
        sys.argv = before
    return 0
