"""``cahp bench``: this package's own speed, and the explorer's with many people in it."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command
from cahp.cli.options import OPTIONS, PROMPT, Option
from cahp.files import write_whole
from cahp.values import OptionError

_LIMIT = OPTIONS["limit"].but(default=640, low=32, fills=False, help="Texts to measure on.")
_ROUNDS = Option("rounds", "Rounds; every round runs each contestant once.", int, 3, low=1, high=100)
_SESSIONS = Option(
    "sessions", "Measure the explorer with so many people at once instead; 50 are a class.", int, 0, low=0, high=500
)
_URL = Option("url", "With --sessions: the address of an explorer that runs, in place of one of its own.")
_INTO = Option("into", "Put the table into this file, between its marks <!-- bench --> and <!-- /bench -->.", Path)


@command(
    *("model", "data", _LIMIT, _ROUNDS, _SESSIONS, _URL, "device", "latency_time", *PROMPT),
    *(_INTO, "as_json", "yes", "quiet"),
)
def bench(call: Call, limit: int, rounds: int, sessions: int, url: str | None, into: Path | None) -> None:
    """Measure this package's own speed side by side with a plain forward pass and a naive baseline."""
    if url is not None and not sessions:
        raise OptionError("--url is where --sessions people go; say how many, such as --sessions 50")
    if sessions:
        from cahp.cli import crowd

        with call.bars() as progress:
            seen = crowd.measure(sessions, url=url, progress=progress)
        call.answer(seen, crowd.words(seen))
        return
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
