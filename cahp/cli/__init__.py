"""The command line: parse, call, print. Errors become one line on stderr and exit code 2."""

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

import typer

from cahp import features
from cahp.cli import commands, doctor, experiment, explore
from cahp.cli.measure import make_command
from cahp.values import CahpError, Cancelled

#: In the order of the help.
COMMANDS = (
    commands.prune,
    commands.evaluate,
    commands.latency,
    commands.recover,
    commands.export,
    commands.report,
    commands.fit,
    commands.models,
    commands.data,
    commands.compare,
    *(make_command(one) for one in features.measures() if one.commanded),
    commands.roles,
    commands.attribute,
    experiment.experiment,
    experiment.reproduce,
    experiment.chat,
    doctor.doctor,
    explore.explore,
)

app = typer.Typer(
    name="cahp",
    help="See which attention heads of a transformer attend in a similar way, keep one of each group, and measure what "
    "that costs.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cahp {version('cahp-explorer')}")
        raise typer.Exit


@app.callback()
def _start(
    show_version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Options of ``cahp`` itself; each acts as it is read."""


for _command in COMMANDS:
    _command.add_to(app)

_INTERRUPTED = 130
#: New objects between two searches for garbage.
_OBJECTS = 100_000
#: Errors of a disk that is full (for this user or at all) or read-only.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code: 0 done, 2 unusable input, 130 interrupted."""
    # Importing PyTorch makes a million objects that stay: looking for garbage among them takes a tenth of its time.
    gc.set_threshold(_OBJECTS)
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that cannot show a character gets its code instead of a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if arguments is None:
        arguments = sys.argv[1:]
    code = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        code = _refuse_disk(error)
    # Python looks for garbage once more when it ends, which takes a second with PyTorch.
    gc.freeze()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors in the input are one line on stderr."""
    command = typer.main.get_command(app)
    words = list(arguments) or ["--help"]
    if os.environ.get("WORLD_SIZE", "1") != "1":
        return _refuse("cahp works in one process; start it without accelerate or torchrun, or unset WORLD_SIZE")
    try:
        code = command.main(words, prog_name="cahp", standalone_mode=False, obj=words)
    except CahpError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        code = _INTERRUPTED
    except SystemExit:
        # The option parser raises it for a broken pipe only; all other codes are returned.
        _discard_output()
        return 0
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return _refuse_disk(error)
    except Exception as error:
        # Usage errors of the option parser, from whichever library Typer takes it.
        if not hasattr(error, "format_message"):
            raise
        path = getattr(getattr(error, "ctx", None), "command_path", "cahp")
        return _refuse(f"{error.format_message().rstrip('.')}; see `{path} --help`")
    if code == _INTERRUPTED:
        # Some versions of the option parser return this code, some raise.
        typer.echo("cahp: interrupted; no incomplete file was left", err=True)
    return code if isinstance(code, int) else 0


def _refuse_disk(error: OSError) -> int:
    # The rest of the output has no room either.
    _discard_output()
    place = error.filename or "the output"
    return _refuse(f"{place} cannot be written ({error.strerror or error}); free some space, or name another place")


def _discard_output() -> None:
    # The reader of a pipe (`| head`) has closed it, which is no error. Without this, Python would complain when it
    # flushes the buffer at exit.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(sentence: str) -> int:
    typer.echo(f"cahp: {' '.join(sentence.split())}", err=True)
    return 2
