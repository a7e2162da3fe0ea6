"""The command ``cahp reproduce``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cahp.cli.command import Call, Option, command, folder
from cahp.cli.commands import EVAL_LIMIT, LIMIT, METHODS, MUST_OUT, RECOVERIES, SEEDS


@command(
    *(MUST_OUT.but(help="Folder for the classifiers, comparisons and the table."), "force"),
    Option("experiments", "Experiments (default: bert-base-cased and bert-large-cased, each with sst5 and mnli)."),
    METHODS.but(help="Methods, separated by commas (default: complementary and random)."),
    *(RECOVERIES, SEEDS.but(help="Number of seeds (3), or the seeds themselves (42,43).")),
    LIMIT.but(help="Number of training and calibration texts (default: all)."),
    EVAL_LIMIT.but(help="Number of evaluation texts (default: all)."),
    *("jobs", "cluster", Option("estimate", "Print the expected cost and stop.", bool, False, ("--estimate",))),
    example="cahp reproduce --estimate --out paper",
)
def reproduce(
    call: Call, out: Path, force: bool, jobs: int | None, cluster: str | None, estimate: bool, **options: Any
) -> None:
    """Repeat the published experiment.

    Its numbers are compared with the published ones. An interrupted call resumes where it stopped.
    """
    from cahp.features.reproduce import use_case

    options |= {"report": call.settings.report, "device": call.settings.device}
    if estimate:
        costs = use_case.estimate_costs(use_case.plan_experiments(**options))
        call.answer(costs, use_case.announcement(costs))
        return

    def lines(document: Mapping[str, Any]) -> list[str]:
        return use_case.table(document["rows"])

    with folder(out, force) as output, call.bars(lines=True) as progress, call.answering(lines):
        document = use_case.reproduce(
            output,
            **options,
            jobs=jobs,
            cluster=cluster,
            command=call.line,
            store=use_case.open_store(fresh=call.no_cache),
            progress=progress,
        )
    folders = document["asked"]["experiments"]
    call.answer(document, [*lines(document), "", output.describe([use_case.FILE, *folders])])
