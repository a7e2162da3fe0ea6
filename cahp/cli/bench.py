"""``cahp bench``: this package's own speed."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command
from cahp.cli.options import OPTIONS, Option
from cahp.files import write_whole
from cahp.run.settings import PROMPT
from cahp.values import OptionError

_LIMIT = OPTIONS["limit"].but(default=640, low=32, fills=False, help="Texts to measure on.")
_ROUNDS = Option("rounds", "Rounds; every round runs each contestant once.", int, 3, low=1, high=100)
_INTO = Option("into", "Put the table into this file, between its marks <!-- bench --> and <!-- /bench -->.", Path)


@command(
    *("model", "data", _LIMIT, _ROUNDS, "device", "latency_time", *PROMPT),
    *(_INTO, "as_json", "yes", "quiet"),
)
def bench(call: Call, limit: int, rounds: int, into: Path | None) -> None:
    """Measure this package's own speed side by side with a plain forward pass and a naive baseline."""
    from cahp.studies import performance

    text = "" if into is None else _text(into)
    if into is not None and performance.placed(text, []) is None:
        raise OptionError(f"{into} has no marks {' and '.join(performance.MARKS)}; write them where the table goes")
    with call.bars() as progress:
        found = performance.measure(call.settings, limit=limit, rounds=rounds, progress=progress)
    lines = list(performance.words(found))
    if into is not None:
        placed = performance.placed(text, lines)
        assert placed is not None
        try:
            write_whole(into.parent, {into.name: placed.encode()})
        except OSError as error:
            call.answer(found, lines)
            raise OptionError(f"{into} cannot be written ({error.strerror}); name another file") from None
    call.answer(found, lines)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise OptionError(f"{file} cannot be read; name a text file with marks for the table") from None
