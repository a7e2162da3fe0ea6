"""The command line: parse, call, print. Errors become one sentence on stderr and exit code 2.

Each command has a file here, with its options in the order of its help.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import typer

from cahp import processes as parallel
from cahp.cli import (
    bench,
    compare,
    data,
    doctor,
    evaluate,
    explore,
    export,
    fit,
    latency,
    models,
    prune,
    recover,
    report,
    reproduce,
)
from cahp.values import CahpError, Cancelled

#: In the order of the help.
COMMANDS = (
    prune.prune,
    evaluate.evaluate,
    latency.latency,
    recover.recover,
    export.export,
    report.report,
    fit.fit,
    models.models,
    data.data,
    compare.compare,
    reproduce.reproduce,
    doctor.doctor,
    bench.bench,
    explore.explore,
)

app = typer.Typer(
    name="cahp",
    help="See which attention heads of a transformer complement each other, and keep only those.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS:
    _command.add_to(app)

_INTERRUPTED = 130
#: A disk with no room, for us or at all, or that may only be read.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
#: Commands that several processes can work on together.
_SHARED = ("prune", "evaluate", "recover", "fit")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 0 done, 2 unusable input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that cannot show a sign gets its code, not a traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:] if arguments is None else arguments)
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.flush()
    except BrokenPipeError:
        _hang_up()
    except OSError as error:
        code = _refuse(_full(error))
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command; what the person can put right is one sentence on stderr."""
    command = typer.main.get_command(app)
    words = list(arguments) or ["--help"]
    try:
        if parallel.world() > 1 and words[0] not in _SHARED:
            return _refuse(f"cahp {words[0]} works in one process; of several, start {', '.join(_SHARED)} only")
        code = command.main(words, prog_name="cahp", standalone_mode=False, obj=words)
    except CahpError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        code = _INTERRUPTED
    except SystemExit:
        # What the option parser makes of a broken pipe; every other end it returns.
        _hang_up()
        return 0
    except OSError as error:
        if error.errno not in _FULL:
            raise
        return _refuse(_full(error))
    except Exception as error:
        # Usage errors of the option parser, whichever library Typer brings it from.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        context = getattr(error, "ctx", None)
        path = "cahp" if context is None else context.command_path
        return _refuse(f"{message().rstrip('.')}; see `{path} --help`")
    if code == _INTERRUPTED and parallel.first():
        # Some versions of the option parser return it, some raise.
        typer.echo("cahp: interrupted; nothing half-written was left", err=True)
    return code if isinstance(code, int) else 0


def _full(error: OSError) -> str:
    # What is still to be printed has no room either.
    _hang_up()
    where = f"{error.filename}" if error.filename else "the answer"
    return f"{where} cannot be written ({error.strerror or error}); free some room, or name another place"


def _hang_up() -> None:
    # The reader of a pipe (`| head`) has gone: not our failure, and nobody is left to tell. What is still buffered
    # goes nowhere, or the interpreter would complain when it flushes on its way out.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(sentence: str) -> int:
    if parallel.first():
        typer.echo(f"cahp: {' '.join(sentence.split())}", err=True)
    return 2
