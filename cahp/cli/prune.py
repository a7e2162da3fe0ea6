"""``cahp prune``: a model, data and a method in; a mask, its cost and its price out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from cahp import processes as parallel
from cahp.cli.command import Call, command, folder
from cahp.cli.options import OPTIONS, Option, settings_of

_OUT = OPTIONS["out"].but(help="Folder for run.json, head_mask.json and arrays.npz.")
_SWEEP = Option(
    "sweep", "Measure every other budget too, for a report that answers at all of them (needs --out).", bool, False
)


@command(*settings_of("prune"), _SWEEP, _OUT, "force", "as_json", "yes", "quiet", "no_cache")
def prune(call: Call, sweep: bool, out: Path | None, force: bool) -> None:
    """Choose the heads that complement each other, and measure what keeping only them costs and saves."""
    from cahp.export.run_folder import MARK, files, write_run
    from cahp.output import UnwrittenError
    from cahp.run.prune import method_of
    from cahp.tasks.sweep import check_sweep, pruned
    from cahp.terminal.printing import summary

    method_of(call.settings)  # An unknown method is refused before any data are fetched.
    if sweep:
        check_sweep(call.settings, out)
    with nullcontext() if out is None else folder(out, force) as output:
        if output is not None:
            output.check_files(files(table=sweep), MARK)
        with call.bars() as progress:
            run, table = pruned(
                call.settings,
                sweep=sweep,
                store=call.store,
                command=call.line,
                progress=progress,
                watch=progress.watch,
            )
        if output is not None and parallel.first():
            with call.telling(lambda _: summary(run.document)), UnwrittenError.carrying(run.document.to_json()):
                write_run(output, run, table=table)
    wrote = "  nothing was written; --out DIR keeps run.json, head_mask.json and arrays.npz"
    if output is not None:
        wrote = output.describe(files(table=sweep))
    call.answer(run.document.to_json(), [*summary(run.document), wrote])
