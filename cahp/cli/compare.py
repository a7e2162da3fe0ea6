"""``cahp compare``: methods of choosing heads, side by side."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from cahp.cli.command import Call, command, folder
from cahp.cli.options import OPTIONS, Option
from cahp.run.settings import COLUMNS, PROMPT

_WHICH = (
    Option("methods", "Names with commas; without, the preset's."),
    Option("budgets", "Heads to keep, with commas: 6,12,20 or 10%,20%."),
    Option("seeds", "How many (5), or which (42,43)."),
    OPTIONS["recover"].but(default=None, fills=False, help="none, refit, distill, finetune, with commas."),
    Option("preset", "quick (the default), posthoc, full or recovery."),
)
#: Without a number, the preset's.
_TEXTS = (OPTIONS["limit"].but(default=None, fills=False), OPTIONS["eval_limit"].but(default=None, fills=False))
_TRIES = Option("tries", "Settings that tuning texts choose among; 1: the defaults.", int, 1, low=1)
WORKERS = (
    Option("jobs", "Processes of this machine; without, one, or one for each GPU.", int, low=1, high=1024),
    Option("cluster", "dask, or dask:ADDRESS of a scheduler."),
)
_OUT = OPTIONS["out"].but(help="Folder for compare.json, a table and figures.")


@command(
    *("model", "data", *_WHICH, *_TEXTS, "eval_split", "sample", "min_per_layer", _TRIES, "report", *WORKERS),
    *("device", *COLUMNS, "label_map", *PROMPT, _OUT, "force", "as_json", "yes", "quiet"),
)
def compare(
    call: Call,
    methods: str | None,
    budgets: str | None,
    seeds: str | None,
    recover: str | None,
    preset: str | None,
    limit: int | None,
    eval_limit: int | None,
    tries: int,
    jobs: int | None,
    cluster: str | None,
    out: Path | None,
    force: bool,
) -> None:
    """Compare methods of choosing heads under one protocol; an interrupted comparison goes on where it stopped."""
    from cahp.comparison.plan import make_plan
    from cahp.comparison.result import FILES, MARK
    from cahp.comparison.running import compare
    from cahp.output import UnwrittenError
    from cahp.terminal.comparison import reporting, summary

    plan = make_plan(
        call.settings,
        preset=preset,
        methods=methods,
        budgets=budgets,
        seeds=seeds,
        recover=recover,
        limit=limit,
        eval_limit=eval_limit,
        tries=tries,
    )
    wrote = "  nothing was written; --out DIR keeps compare.json, comparison.csv and the figures"
    with nullcontext() if out is None else folder(out, force) as output:
        if output is not None:
            output.check_files(FILES, MARK)
        with reporting(quiet=call.quiet) as (progress, announce):
            found = compare(
                plan,
                store=call.store,
                jobs=jobs,
                cluster=cluster,
                command=call.line,
                progress=progress,
                announce=announce,
            )
        if output is not None:
            with call.telling(lambda _: summary(found)), UnwrittenError.carrying(found.as_json()):
                wrote = output.describe(found.write(output))
    call.answer(found.as_json(), [*summary(found), wrote])
