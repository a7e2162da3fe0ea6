"""Repeat the published experiment: classifiers are fine-tuned, pruned and recovered as in the paper.

    cahp experiment reproduce --out paper --estimate
    cahp experiment reproduce --out paper --jobs 2

The folder holds one table with the published numbers beside ours, the classifiers, and for each experiment a folder
that the Compare page opens. An interrupted call resumes where it stopped: classifiers are in the folder, trainings and
the answers of each mask in the cache. Classifiers are trained one after another; processes share the masks.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from _published import PUBLISHED, ExpectedCost, Published, announcement, estimate_costs
from _settings import print_result

from cahp import data, fit, models
from cahp.cli.command import questions
from cahp.comparison.plan import REFERENCE, TRAINED_ONCE, Plan, read_items, read_seeds
from cahp.comparison.result import SplitResults
from cahp.comparison.running import compare
from cahp.data.sources import PRESETS
from cahp.files import json_text
from cahp.output import Mark, Output
from cahp.run.settings import PUBLISHED_LENGTH, Settings
from cahp.store import Store
from cahp.terminal.progress import bars
from cahp.values import OptionError
from cahp.words import interval, percent

SCHEMA = "cahp.reproduction/1"
FILE = "reproduction.json"
_TABLE = "reproduction.md"
_SOURCE = "published numbers: arXiv 2606.19150, from secondary sources, of one seed as far as known"
#: Bytes of the cache: an interrupted training of BERT-large takes five gigabytes.
_CACHE_BYTES = 16 << 30


def main(arguments: Sequence[str] | None = None) -> None:
    """Repeat the experiments, print the table, and write it."""
    parser = argparse.ArgumentParser(prog="cahp experiment reproduce", description=__doc__.splitlines()[0])
    known = ", ".join(experiment.name for experiment in PUBLISHED)
    parser.add_argument("--out", required=True, help="folder for the classifiers, comparisons and the table")
    parser.add_argument("--experiments", help=f"experiments, separated by commas (default: {known})")
    parser.add_argument("--methods", help="methods, separated by commas (default: complementary,random)")
    parser.add_argument("--recover", help="recoveries, separated by commas (default: all but refit-finetune)")
    # The paper reports one seed as far as we know; three show how much the seed matters.
    parser.add_argument("--seeds", default="3", help="number of seeds (3), or the seeds themselves (42,43)")
    parser.add_argument("--limit", type=int, help="number of training and calibration texts (default: all)")
    parser.add_argument("--eval-limit", type=int, help="number of evaluation texts (default: all)")
    parser.add_argument("--report", choices=["test"], help="also evaluate on the test split; each opening is counted")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--jobs", type=int, help="processes on this machine (default: one, or one per GPU)")
    parser.add_argument("--cluster", help="run on a cluster: dask, or dask:ADDRESS of a scheduler")
    parser.add_argument("--estimate", action="store_true", help="print the expected cost and stop")
    parser.add_argument("--force", action="store_true", help="replace files in the folder that this did not write")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--yes", action="store_true", help="agree to large downloads")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--no-cache", action="store_true", help="measure again what is cached")
    options = parser.parse_args(arguments)
    plans = plan_experiments(options)
    costs = estimate_costs(plans)
    if options.estimate:
        lines = announcement(costs)
        document: Any = [asdict(cost) for cost in costs]
    else:
        command = shlex.join(["cahp", "experiment", "reproduce", *(arguments or sys.argv[1:])])
        document = reproduce(plans, costs, options, command)
        lines = table(document["rows"])
    print_result(document, lines, as_json=options.json)


def plan_experiments(options: argparse.Namespace) -> dict[Published, Plan]:
    """Return the comparison of each experiment, of its encoder until that is fine-tuned.

    Raises:
        OptionError: If a name is unknown or an option invalid.
    """
    known = [experiment.name for experiment in PUBLISHED]
    names = read_items(options.experiments or known)
    for name in names:
        if name not in known:
            raise OptionError(f"--experiments {name} is unknown; choose among {', '.join(known)}")
    seeds = read_seeds(options.seeds)
    plans = {}
    for experiment in PUBLISHED:
        if experiment.name not in names:
            continue
        report = options.report
        # The published test split of MNLI has no labels.
        if "test" not in PRESETS[experiment.data].splits:
            report = None
        settings = Settings(
            model=experiment.hub,
            data=experiment.data,
            limit=options.limit,
            eval_limit=options.eval_limit,
            pool_size=experiment.pool_size,
            max_length=PUBLISHED_LENGTH,
            device=options.device,
            report=report,
        )
        plans[experiment] = Plan(
            settings,
            methods=read_items(options.methods or (REFERENCE, "random")),
            budgets=(str(experiment.kept),),
            seeds=seeds,
            recoveries=read_items(options.recover or TRAINED_ONCE),
            # One random mask per seed, so that each method is recovered equally often.
            draws=len(seeds),
        )
    return plans


def reproduce(
    plans: Mapping[Published, Plan], costs: Sequence[ExpectedCost], options: argparse.Namespace, command: str
) -> dict[str, Any]:
    """Fine-tune, prune and recover the classifiers of ``plans``, and write one table with the published numbers."""
    output = Output(options.out, force=options.force)
    output.check_files((FILE, _TABLE), Mark(FILE, "cahp.reproduction"))
    output.check_writable()
    store = Store(limit_bytes=_CACHE_BYTES, fresh=options.no_cache)
    with questions(yes=options.yes), bars(quiet=options.quiet, lines=True) as reporter:
        reporter.say("\n".join(announcement(costs)))
        for experiment in plans:
            # Fetched here, so that a person is asked once, before hours of work.
            models.identify(experiment.hub)
            data.load(experiment.data)
        rows: list[dict[str, Any]] = []
        for experiment, plan in plans.items():
            folder = output.folder.resolve()
            classifier = folder / "classifiers" / experiment.name
            how: dict[str, Any] = {"store": store, "progress": reporter}
            # The folder of an earlier call is found again. The test split is opened only on request.
            fit(plan.settings, out=classifier, whole=True, measured=(), limit=plan.settings.limit, **how)
            of_classifier = replace(plan, settings=replace(plan.settings, model=str(classifier)))
            comparison = compare(of_classifier, jobs=options.jobs, cluster=options.cluster, command=command, **how)
            comparison.write(folder / experiment.name)
            rows += list_rows(experiment, comparison.results_on(comparison.document.parts[-1], "accuracy"))
    plan = next(iter(plans.values()))
    request = {
        "experiments": [experiment.name for experiment in plans],
        "methods": plan.methods,
        "recoveries": plan.recoveries,
        "seeds": plan.seeds,
        "limit": options.limit,
        "eval_limit": options.eval_limit,
        "report": options.report,
        "device": options.device,
    }
    document = {"schema": SCHEMA, "source": _SOURCE, "asked": request, "rows": rows, "command": command}
    output.write({FILE: json_text(document).encode(), _TABLE: ("\n".join(table(rows)) + "\n").encode()})
    return document


def list_rows(experiment: Published, results: SplitResults) -> list[dict[str, Any]]:
    """Return a row for the full model and each method, by recovery."""
    shared = {
        "experiment": experiment.name,
        "split": results.split,
        "n": results.n,
        "seeds": len(results.document.seeds),
        "of": results.total,
        "kl": None,
        "agreement": None,
    }
    rows = []
    for recovery, accuracy in results.full.items():
        row = {**shared, "method": "all heads", "kept": results.total, "recovery": recovery, "accuracy": accuracy}
        row["interval"] = None
        row["published"] = experiment.full if recovery == "none" else None
        rows.append(row)
    for (recovery, method, budget), mean in results.means.items():
        row = {
            **shared,
            "method": method,
            "kept": budget,
            "recovery": recovery,
            "accuracy": mean.outcomes["accuracy"].value,
        }
        row["interval"] = [mean.outcomes["accuracy"].low, mean.outcomes["accuracy"].high]
        row["published"] = None
        if method == REFERENCE and recovery == "finetune":
            row["published"] = experiment.pruned
        row["kl"] = mean.outcomes["kl"].value
        row["agreement"] = mean.outcomes["agreement"].value
        rows.append(row)
    return rows


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as a Markdown table."""
    lines = [
        "| experiment | heads | method | recovery | accuracy here | published |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy = percent(row["accuracy"])
        if row["interval"] is not None:
            low, high = row["interval"]
            accuracy += f" {interval(100 * low, 100 * high)}"
        published = ""
        if row["published"] is not None:
            published = f"{row['published']:.1f}"
        lines.append(
            f"| {row['experiment']} | {row['kept']} of {row['of']} | {row['method']} | {row['recovery']} | "
            f"{accuracy} | {published} |"
        )
    splits = ", ".join(dict.fromkeys(f"{row['experiment']} {row['split']} (n = {row['n']:,})" for row in rows))
    return [
        *lines,
        "",
        f"Measured on {splits}; means over seeds with 95 % intervals; texts cut at {PUBLISHED_LENGTH} tokens, as "
        f"published. P{_SOURCE[1:]}.",
    ]


if __name__ == "__main__":
    main()
