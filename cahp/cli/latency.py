"""``cahp latency``: what a mask saves in time and size."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command
from cahp.cli.options import OPTIONS, Option
from cahp.run.settings import PROMPT

_OWN = (
    OPTIONS["batch"].but(default=8),
    Option("length", "Tokens a text.", int, 64, low=2, high=128),
    Option("repeats", "Measured rounds, instead of as many as it takes to know.", int, None, low=5, high=10_000),
)


@command("mask", "model", *_OWN, "device", "latency_time", *PROMPT, "as_json", "yes", "quiet", "no_cache")
def latency(call: Call, mask: Path, batch: int, length: int, repeats: int | None) -> None:
    """Time the model with its heads cut out against the full one, in turn, until the ratio is known within 2 %."""
    from cahp.models import asked
    from cahp.run.settings import parse_duration
    from cahp.tasks import evaluate as task
    from cahp.terminal.printing import cost

    with call.bars() as progress:
        found = task.latency(
            call.settings.model,
            mask,
            batch=batch,
            length=length,
            seconds=parse_duration(call.settings.latency_time, "--latency-time"),
            repeats=repeats,
            device=call.settings.device,
            prompt=asked(call.settings.prompt, call.settings.answers),
            store=call.store,
            progress=progress,
        )
    notes = (f"  note: {notice}" for notice in found["notices"])
    call.answer(found, [*cost(found["cost"], found["latency_ratio"], found["attention_share"]), *notes])
