"""``cahp prune``: a model, data and a method in; a mask, its cost and its price out."""

from __future__ import annotations

from pathlib import Path

from cahp import processes as parallel
from cahp.cli.command import Call, command, folder
from cahp.cli.options import OPTIONS, Option, filling
from cahp.run.spelling import PRUNE

_OUT = OPTIONS["out"].but(help="Folder for run.json, head_mask.json and arrays.npz.")
_SWEEP = Option(
    "sweep", "Measure every other budget too, for a report that answers at all of them (needs --out).", bool, False
)


@command(*filling(PRUNE), _SWEEP, _OUT, "as_json", "yes", "quiet", "no_cache")
def prune(call: Call, sweep: bool, out: Path | None) -> None:
    """Choose the heads that complement each other, and measure what keeping only them costs and saves."""
    from cahp.export.run_folder import write_run
    from cahp.run.prune import method_of
    from cahp.tasks.sweep import check_sweep, pruned
    from cahp.terminal.printing import summary

    method_of(call.settings)  # An unknown method is refused before any data are fetched.
    if sweep:
        check_sweep(call.settings, out)
    with folder(out):
        with call.bars() as progress:
            run, table = pruned(
                call.settings,
                sweep=sweep,
                store=call.store,
                command=call.line,
                progress=progress,
                watch=progress.watch,
            )
        if out is not None and parallel.first():
            write_run(out, run, table=table)
    wrote = "nothing was written; --out DIR keeps run.json, head_mask.json and arrays.npz"
    if out is not None:
        wrote = f"wrote     {out}/run.json, head_mask.json, arrays.npz{', table.json' if sweep else ''}"
    call.answer(run.document.to_json(), [*summary(run.document), f"  {wrote}"])
