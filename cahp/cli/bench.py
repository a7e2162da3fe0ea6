"""``cahp bench``: this package's own speed."""

from __future__ import annotations

from cahp.cli.command import Call, command
from cahp.cli.options import OPTIONS, PROMPT, Option

_LIMIT = OPTIONS["limit"].but(default=640, low=32, fills=False, help="Texts to measure on.")
_ROUNDS = Option("rounds", "Rounds; every round runs each contestant once.", int, 3, low=1, high=100)


@command("model", "data", _LIMIT, _ROUNDS, "device", *PROMPT, "as_json", "yes", "quiet")
def bench(call: Call, limit: int, rounds: int) -> None:
    """Measure this package's own speed side by side with a plain forward pass and a naive baseline."""
    from cahp.studies import benchmark

    with call.bars() as progress:
        found = benchmark.measure(call.settings, limit=limit, rounds=rounds, progress=progress)
    call.answer(found, benchmark.words(found))
