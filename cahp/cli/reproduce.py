"""``cahp reproduce``: the published experiment, beside its numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.cli.command import Call, command, folder
from cahp.cli.compare import WORKERS
from cahp.cli.options import OPTIONS, REQUIRED, Option
from cahp.words import duration, size_of

if TYPE_CHECKING:
    from cahp.tasks.reproduce import Expected

_WHICH = (
    Option("experiments", "With commas; without, bert-base-cased and bert-large-cased, each with sst5 and mnli."),
    Option("methods", "Names with commas; without, complementary and random."),
    OPTIONS["recover"].but(default=None, fills=False, help="With commas; without, none,refit,distill,finetune."),
    Option("seeds", "How many (3), or which (42,43)."),
    OPTIONS["limit"].but(default=None, fills=False, help="Training and calibration texts; without, all."),
    OPTIONS["eval_limit"].but(default=None, fills=False, help="Evaluation texts; without, all."),
)
_ESTIMATE = Option("estimate", "Say what it takes, and stop.", bool, False, ("--estimate",))
_OUT = OPTIONS["out"].but(default=REQUIRED, help="Folder for the classifiers, comparisons and the table.")


@command(_OUT, "force", *_WHICH, "report", *WORKERS, "device", _ESTIMATE, "as_json", "yes", "quiet")
def reproduce(
    call: Call,
    out: Path,
    force: bool,
    experiments: str | None,
    methods: str | None,
    recover: str | None,
    seeds: str | None,
    limit: int | None,
    eval_limit: int | None,
    jobs: int | None,
    cluster: str | None,
    estimate: bool,
) -> None:
    """Do the published experiment again, beside its numbers; what was interrupted goes on where it stopped."""
    from cahp.comparison.plan import parse_seeds, split_list
    from cahp.tasks import reproduce as task
    from cahp.terminal.comparison import reporting

    usual = task.Asked()
    asked = task.Asked(
        experiments=usual.experiments if experiments is None else split_list(experiments),
        methods=usual.methods if methods is None else split_list(methods),
        recoveries=usual.recoveries if recover is None else split_list(recover),
        seeds=usual.seeds if seeds is None else parse_seeds(seeds),
        limit=limit,
        eval_limit=eval_limit,
        report=call.settings.report,
        device=call.settings.device,
    )
    if estimate:
        found = task.expected(asked)
        call.answer(found, announcement(found))
        return

    def announce(found: Sequence[Expected]) -> None:
        if not call.quiet:
            print("\n".join(announcement(found)), file=sys.stderr, flush=True)

    def told(done: Mapping[str, Any]) -> Iterator[str]:
        yield from task.table(done["rows"])

    with folder(out, force) as output, reporting(quiet=call.quiet) as (progress, _), call.telling(told):
        done = task.reproduce(
            asked,
            out=output,
            jobs=jobs,
            cluster=cluster,
            command=call.line,
            progress=progress,
            announce=announce,
        )
    call.answer(done, [*told(done), "", output.describe([task.FILE, *asked.experiments])])


def announcement(found: Sequence[Expected]) -> list[str]:
    """What everything takes, before it begins."""
    wide = max(len(one.name) for one in found)
    lines = [
        f"  {one.name:<{wide}}  about {duration(3600 * one.hours_here)} on this machine, "
        f"{duration(3600 * one.hours_gpu)} on one modern GPU; {size_of(one.memory_bytes)} of memory"
        for one in found
    ]
    here, there = (sum(getattr(one, name) for one in found) for name in ("hours_here", "hours_gpu"))
    total = f"about {duration(3600 * here)} on this machine in all, {duration(3600 * there)} on one modern GPU"
    return [f"cahp: {len(found)} experiments, {total} (operations counted on the configuration)", *lines]
