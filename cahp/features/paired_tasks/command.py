"""``cahp evaluate --samples`` and ``--tasks``: runs of lm-evaluation-harness, compared item by item."""

from __future__ import annotations

from pathlib import Path

from cahp.cli.command import Alternative, Call, Option, optional_folder
from cahp.values import OptionError


def _compare(call: Call, mask: Path | None, samples: list[str]) -> None:
    from cahp.api.options import check_used
    from cahp.features.paired_tasks.lines import paired_lines
    from cahp.features.paired_tasks.use_case import compare_samples

    if len(samples) != 2:
        raise OptionError(f"--samples compares two runs, and {len(samples)} are given; write --samples A --samples B")
    if mask is not None:
        raise OptionError("--mask has no effect on --samples, which compares two finished runs; leave it out")
    check_used(call.settings, ("seed",), "--samples, which compares two finished runs")
    first, second = samples
    paired = compare_samples(first, second, seed=call.settings.seed)
    call.answer(paired.to_json(), paired_lines(paired))


def _evaluate(
    call: Call, mask: Path | None, tasks: str, items: int | None, samples_out: Path | None, force: bool
) -> None:
    from cahp.features.paired_tasks.lines import paired_lines
    from cahp.features.paired_tasks.use_case import MARK, RESULTS, evaluate_tasks

    if mask is None:
        raise OptionError("--tasks compares a pruned model with the full one; give its heads with --mask")
    with optional_folder(samples_out, force, [RESULTS], MARK) as output:
        with call.bars() as progress:
            result = evaluate_tasks(
                call.settings, tasks, mask=mask, items=items, progress=progress, yes=call.yes, store=call.store
            )
        wrote = "  nothing was written; --samples-out DIR writes the samples"
        if output is not None:
            with call.keeping(result.to_json(), paired_lines(result.paired)):
                result.write(output)
            wrote = output.describe(result.list_files())
    call.answer(result.to_json(), [*paired_lines(result.paired), wrote])


SAMPLES = Alternative(
    (
        Option(
            "samples",
            "Compare two runs of lm-evaluation-harness item by item, without a model: give the option twice, each with "
            "a samples_*.jsonl file.",
            list[str],
            (),
            values="FILE",
        ),
    ),
    _compare,
)
TASKS = Alternative(
    (
        Option(
            "tasks",
            "Compare the pruned with the full model on tasks of lm-evaluation-harness (extra tasks): names or YAML "
            "files, separated by commas. Without --yes it does not use the network.",
            values="A,B,...",
        ),
        Option("items", "Number of items of each of the --tasks (default: all).", int, low=1),
        Option("samples_out", "Folder for paired.json and the samples of --tasks.", Path),
        Option("force", "Replace files in the folder of --samples-out.", bool, False, ("--force",)),
    ),
    _evaluate,
)
