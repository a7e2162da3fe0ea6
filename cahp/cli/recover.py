"""``cahp recover``: a model under a mask, refitted or fine-tuned, as a plain checkpoint."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command, folder
from cahp.cli.options import COLUMNS, OPTIONS, REQUIRED, Option

_OUT = OPTIONS["out"].but(default=REQUIRED, help="Folder for the recovered model.")
_HOW = Option("how", "refit (seconds) or finetune (minutes to hours).", default="refit", spelled=("--recover",))
_SCHEDULE = (
    OPTIONS["epochs"].but(default=3, high=100, help="Epochs of fine-tuning."),
    OPTIONS["learning_rate"].but(default=2e-5, help="Highest rate of fine-tuning."),
    "batch",
)
_TEXTS = ("limit", "eval_limit")


@command(
    *("mask", _OUT, "model", "data", _HOW, *_TEXTS, *_SCHEDULE),
    *("sample", "seed", "device", *COLUMNS, "label_map", "as_json", "quiet", "no_cache"),
)
def recover(call: Call, mask: Path, out: Path, how: str, epochs: int, learning_rate: float, batch: int) -> None:
    """Recover a model under a mask and save it: a plain checkpoint of the usual shapes that loads anywhere."""
    from cahp.cli.printing import quality
    from cahp.export.formats import model_form
    from cahp.tasks import recover as task

    with folder(out), call.bars() as progress:
        found = task.recover(
            call.settings,
            mask=mask,
            how=how,
            out=out,
            epochs=epochs,
            learning_rate=learning_rate,
            batch=batch,
            store=call.store,
            progress=progress,
            watch=progress.watch,
        )
    wrote = f"  wrote     {out}: {model_form('drop-in').loads}"
    call.answer(found, [*quality(found), wrote])
