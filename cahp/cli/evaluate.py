"""``cahp evaluate``: a model's answers under a mask."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command
from cahp.cli.options import OPTIONS, settings_of

_MODEL, _DATA, *_TEXTS = settings_of("evaluate")
_MASK = OPTIONS["mask"].but(default=None, help="A head mask; without one: the full model.")


@command(_MODEL, _DATA, _MASK, *_TEXTS, "as_json", "yes", "quiet", "no_cache")
def evaluate(call: Call, mask: Path | None) -> None:
    """Measure a model's answers, with all heads and under a mask."""
    from cahp.tasks import evaluate as task
    from cahp.terminal.printing import quality

    with call.bars() as progress:
        found = task.evaluate(call.settings, mask=mask, store=call.store, progress=progress)
    call.answer(found, quality(found))
