"""``cahp recover``: a model under a mask, refitted, distilled or fine-tuned, as a plain checkpoint."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command, folder
from cahp.cli.options import OPTIONS, REQUIRED, Option
from cahp.run.settings import COLUMNS, PROMPT

_OUT = OPTIONS["out"].but(default=REQUIRED, help="Folder for the recovered model.")
_HOW = Option(
    "how",
    "auto (refit, then distillation, in --recover-time), refit (seconds: on a third of the calibration texts, at least "
    "512), distill (minutes) or finetune.",
    str,
    "auto",
    ("--recover",),
)
_SCHEDULE = (
    OPTIONS["epochs"].but(default=None, help="Epochs of training (3)."),
    OPTIONS["learning_rate"].but(default=None, help="Highest rate of training (distill 1e-4, finetune 2e-5)."),
    OPTIONS["batch"].but(default=None, help="Texts a batch (distill 64, finetune 32)."),
)
_TEXTS = ("limit", "eval_limit")


@command(
    *("mask", _OUT, "force", "model", "data", _HOW, "recover_data", "recover_time", "labels", *_TEXTS, *_SCHEDULE),
    *("sample", "seed", "device", *COLUMNS, "label_map", *PROMPT, "as_json", "yes", "quiet", "no_cache"),
)
def recover(
    call: Call,
    mask: Path,
    out: Path,
    force: bool,
    how: str,
    epochs: int | None,
    learning_rate: float | None,
    batch: int | None,
) -> None:
    """Recover a model under a mask and save it: a plain checkpoint of the usual shapes that loads anywhere."""
    from cahp.export.formats import as_asked, model_form
    from cahp.models import asked
    from cahp.tasks import recover as task
    from cahp.terminal.printing import quality

    with folder(out, force) as output, call.bars() as progress, call.telling(quality):
        found = task.recover(
            call.settings,
            mask=mask,
            how=how,
            out=output,
            epochs=epochs,
            learning_rate=learning_rate,
            batch=batch,
            store=call.store,
            progress=progress,
            watch=progress.watch,
        )
    prompt = asked(call.settings.prompt, call.settings.answers)
    wrote = f"{output.describe()}: {as_asked(model_form('drop-in').loads, prompt)}"
    call.answer(found, [*quality(found), wrote])
