"""``cahp bench``: the speed of this package."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command
from cahp.cli.options import OPTIONS, Option
from cahp.files import write_whole
from cahp.values import OptionError


@command(
    OPTIONS["limit"].but(default=640, low=32, fills=False, help="Number of texts."),
    Option("rounds", "Number of rounds; each contestant runs once per round.", int, 3, low=1, high=100),
    Option("into", "Write the table into this file, between the marks <!-- bench --> and <!-- /bench -->.", Path),
    of_call=("as_json", "yes", "quiet"),
)
def bench(call: Call, limit: int, rounds: int, into: Path | None) -> None:
    """Measure the speed of this package against a plain forward pass and a naive implementation."""
    from cahp.studies import performance

    text = "" if into is None else _read(into)
    if into is not None and performance.placed(text, []) is None:
        raise OptionError(f"{into} has no marks {' and '.join(performance.MARKS)}; write them where the table goes")
    with call.bars() as progress:
        document = performance.measure(call.settings, limit=limit, rounds=rounds, progress=progress)
    lines = list(performance.words(document))
    if into is not None:
        placed = performance.placed(text, lines)
        assert placed is not None
        try:
            write_whole(into.parent, {into.name: placed.encode()})
        except OSError as error:
            call.answer(document, lines)
            raise OptionError(f"{into} cannot be written ({error.strerror}); name another file") from None
    call.answer(document, lines)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise OptionError(f"{file} cannot be read; name a text file with marks for the table") from None
