"""``cahp prune``: a model, data and a method in; a mask, its cost and its price out."""

from __future__ import annotations

from pathlib import Path

from cahp import processes as parallel
from cahp.cli.command import Call, command, folder
from cahp.cli.options import OPTIONS, filling
from cahp.run.spelling import PRUNE

_OUT = OPTIONS["out"].but(help="Folder for run.json, head_mask.json and arrays.npz.")


@command(*filling(PRUNE), _OUT, "as_json", "yes", "quiet", "no_cache")
def prune(call: Call, out: Path | None) -> None:
    """Choose the heads that complement each other, and measure what keeping only them costs and saves."""
    from cahp.export.run_folder import write_run
    from cahp.run.prune import method_of, prune
    from cahp.terminal.printing import summary

    method_of(call.settings)  # An unknown method is refused before any data are fetched.
    with folder(out):
        with call.bars() as progress:
            run = prune(call.settings, store=call.store, command=call.line, progress=progress, watch=progress.watch)
        if out is not None and parallel.first():
            write_run(out, run)
    wrote = "nothing was written; --out DIR keeps run.json, head_mask.json and arrays.npz"
    if out is not None:
        wrote = f"wrote     {out}/run.json, head_mask.json, arrays.npz"
    call.answer(run.document.to_json(), [*summary(run.document), f"  {wrote}"])
