"""Measure what the share of repeats in the calibration of a language model does.

Groups are chosen and refitted on the same mix of text and repeats; each run holds KL divergence and abilities. The file
is written after each run, and its runs are not measured again. With ``--distilled``, one run is measured instead, which
is refitted and then distilled.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import torch

from cahp import Settings, open_bench
from cahp.features.abilities.section import RECEIPT, measure_receipt
from cahp.files import json_text, plain_json, write_whole
from cahp.recoveries import NONE, RECOVERIES
from cahp.run.document import machine
from cahp.run.prune import measure_run
from cahp.run.recoveries import Recovered, projections_of
from cahp.stages.recovery import refit
from cahp.terminal.progress import bars
from cahp.values import Progress


@dataclass(frozen=True)
class MixArm:
    """What runs of this experiment have in common, and the budgets and seeds that they have.

    The refit leaves the first ``untouched`` layers alone.
    """

    mix: str
    method: str = "obs-fisher"
    min_first_layers: int = 0
    untouched: int = 0
    budgets: tuple[int, ...] = (72,)
    seeds: tuple[int, ...] = (43, 44, 45, 46, 47)


#: The two mixes that are compared for each method: text alone, and the default.
_TEXT_AND_MIX = ("0", Settings.mix)
#: The default mix was chosen on the first of these, with seed 42. The others confirm it on seeds of their own.
MIX_ARMS: tuple[MixArm, ...] = (
    *(MixArm(mix, budgets=(72, 45), seeds=(42,)) for mix in ("0", "repeats=10%", "repeats=25%", "repeats=40%")),
    *(MixArm(mix, budgets=(72, 45)) for mix in _TEXT_AND_MIX),
    MixArm(Settings.mix, min_first_layers=2),
    *(MixArm(mix, untouched=1) for mix in _TEXT_AND_MIX),
    *(MixArm(mix) for mix in ("repeats=5%", "repeats=10%")),
    *(MixArm(mix, "complementary") for mix in _TEXT_AND_MIX),
    # `obs-fisher` keeps all groups of the first layers, and CAHP one of three in layer 0.
    *(MixArm(mix, "complementary", untouched=1) for mix in _TEXT_AND_MIX),
    MixArm(Settings.mix, "complementary", min_first_layers=2),
    *(MixArm(mix, "random") for mix in _TEXT_AND_MIX),
    *(MixArm(mix, "fisher-output") for mix in _TEXT_AND_MIX),
    *(MixArm(mix, "fisher") for mix in _TEXT_AND_MIX),
)


def key_of(run: Mapping[str, Any]) -> tuple[object, ...]:
    """What tells a run from the others."""
    return tuple(run[name] for name in ("method", "min_first_layers", "untouched", "seed", "mix", "budget"))


def measure_mix(settings: Settings, progress: Progress, *, untouched: int = 0) -> Any:
    """Measure what a run leaves of KL divergence and abilities.

    If the refit leaves layers ``untouched``, it takes the place of the recovery of the settings.
    """
    if untouched:
        settings = replace(settings, recover=NONE.name)
    bench = open_bench(settings, progress=progress)
    document = measure_run(bench, measures=(RECEIPT,)).document
    record = RECEIPT.read_run(document)
    outcomes = document.outcomes
    refitted = document.refit
    if untouched:
        inputs = bench.recoveries.inputs
        made, refitted = refit(
            bench.model, document.mask, inputs, seed=settings.seed, untouched=untouched, progress=progress
        )
        recovered = Recovered(projections_of(made, RECOVERIES["refit"]), refitted)
        outcomes = bench.measurements.outcomes(bench.evaluation, document.mask, recovered=recovered, seed=settings.seed)
        record = measure_receipt(bench, document.mask, recovered, complete=False)
    assert record is not None
    content = {
        **{"method": settings.method, "min_first_layers": settings.min_first_layers, "untouched": untouched},
        **{"seed": settings.seed, "mix": settings.mix, "budget": int(settings.budget)},
        "kept": document.mask.by_layer,
        "outcomes": {
            state: {name: measured[name] for name in ("kl", "perplexity")} for state, measured in outcomes.items()
        },
        **{"abilities": plain_json(record), "refit": refitted, "distill": document.distill},
    }
    return plain_json(content)


def measure_mixes(file: Path, model: str, seeds: Sequence[int], progress: Progress) -> None:
    """Measure the runs of ``MIX_ARMS`` with some ``seeds`` (empty: all), as far as ``file`` lacks them."""
    runs: dict[tuple[object, ...], Any] = {}
    if file.is_file():
        earlier = json.loads(file.read_text("utf-8"))
        runs = {key_of(run): run for run in earlier["runs"]}
    for arm in MIX_ARMS:
        for budget, seed in product(arm.budgets, arm.seeds):
            key = key_of({**asdict(arm), "budget": budget, "seed": seed})
            if key in runs or (seeds and seed not in seeds):
                continue
            settings = Settings(
                model=model,
                method=arm.method,
                mix=arm.mix,
                min_first_layers=arm.min_first_layers,
                budget=str(budget),
                seed=seed,
                recover="refit",
                latency=False,
            )
            runs[key] = measure_mix(settings, progress, untouched=arm.untouched)
            made = {"machine": machine(), "date": date.today().isoformat()}
            content = {"made": made, "model": model, "runs": [runs[place] for place in sorted(runs)]}
            write_whole(file.parent, {file.name: json_text(content).encode()})


def measure_distilled(file: Path, model: str, budget: int, allowed: str, progress: Progress) -> None:
    """Measure so many groups by ``obs-fisher`` on the default mix, refitted and then distilled as long as allowed."""
    settings = Settings(
        model=model, method="obs-fisher", budget=str(budget), recover="auto", recover_time=allowed, latency=False
    )
    run = measure_mix(settings, progress)
    made = {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "allowed": allowed,
        "date": date.today().isoformat(),
    }
    write_whole(file.parent, {file.name: json_text({"made": made, "model": model, "run": run}).encode()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the runs as JSON."""
    parser = argparse.ArgumentParser(prog="cahp experiment mixes", description=__doc__)
    parser.add_argument("model", help="language model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write, or to complete")
    parser.add_argument("--seeds", type=int, nargs="+", default=[], help="seeds to measure (default: all)")
    parser.add_argument("--distilled", type=int, help="number of groups of the one run that is distilled")
    parser.add_argument("--recover-time", default="10m", help="time for the distillation (default: 10m)")
    options = parser.parse_args(arguments)
    with bars(quiet=False, lines=True) as progress:
        if options.distilled is None:
            measure_mixes(options.out, options.model, options.seeds, progress)
        else:
            measure_distilled(options.out, options.model, options.distilled, options.recover_time, progress)


if __name__ == "__main__":
    main()
