"""``cahp export``: a pruned model as a folder that others load, or a mask as another file."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Call, command, folder
from cahp.cli.options import OPTIONS, REQUIRED, Option
from cahp.export.formats import option_help
from cahp.run.settings import COLUMNS, PROMPT

_OUT = OPTIONS["out"].but(default=REQUIRED, help="Folder for the model, or for the mask's file.")
_FORM = Option("form", option_help(), default="compact", spelled=("--format",))
_HOW = Option(
    "how",
    "auto (refit, then distillation, in --recover-time; the default where there are data), none, refit (seconds: on "
    "a third of the calibration texts, at least 512), distill (minutes) or finetune.",
    str,
    None,
    ("--recover",),
)
_LATENCY = Option(
    "latency",
    "Time ONNX files: the full model's, the pruned one's, and where weights are rounded that one's.",
    bool,
    True,
)


@command(
    *("mask", _OUT, "force", "model", "data", _FORM, _HOW, "recover_data", "recover_time", "labels"),
    *("limit", "eval_limit"),
    *(
        "sample",
        "seed",
        "device",
        "latency_time",
        *COLUMNS,
        "label_map",
        *PROMPT,
        _LATENCY,
        "as_json",
        "yes",
        "quiet",
        "no_cache",
    ),
)
def export(call: Call, mask: Path, out: Path, force: bool, form: str, how: str | None, latency: bool) -> None:
    """Take a pruned model home: written, read back in a fresh process, compared; or convert a mask to another file."""
    from cahp.export import take_home as task
    from cahp.terminal.printing import exported

    with folder(out, force) as output, call.bars() as progress, call.telling(exported):
        found = task.export(
            call.settings,
            mask=mask,
            form=form,
            out=output,
            how=how,
            time=latency,
            command=call.line,
            store=call.store,
            progress=progress,
            watch=progress.watch,
        )
    call.answer(found, exported(found, output))
