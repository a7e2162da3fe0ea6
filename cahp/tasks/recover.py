"""A model recovered under a mask, written as a checkpoint of the usual shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.export.checkpoints import claimed
from cahp.export.masks import kept_heads, read_for
from cahp.output import Output, UnwrittenError
from cahp.run.bench import Bench, open_bench
from cahp.run.document import Outcome, SplitRecord, StateDeltas, StateMetrics
from cahp.run.ladder import steps
from cahp.run.prune import outcomes
from cahp.run.recovered import Recovered, refit_report
from cahp.run.settings import RECOVER_TIME, Settings, identify_model, parse_duration
from cahp.store import Store
from cahp.values import Delta, HeadMask, Metrics, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


@dataclass(frozen=True)
class BesideMetrics(StateMetrics):
    """Quality of the trained model (``recovered``) beside that of the refitted one."""

    refitted: Metrics | None


@dataclass(frozen=True)
class BesideDeltas(StateDeltas):
    """Accuracy of the trained model (``recovered``) and of the refitted one against the full one."""

    refitted: Delta | None


def recover(
    settings: Settings,
    *,
    mask: Path,
    out: Path | Output,
    how: str = "refit",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    store: Store | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Recover a model under a mask, write it to ``out`` as a checkpoint of the usual shapes, and measure it.

    The pruned heads' output weights are zero there, so any tool that loads the original loads this. A training, which
    ``watch`` sees, is measured beside the refit (``metrics.refitted``, ``delta.refitted``) where there can be one;
    ``epochs``, ``learning_rate`` and ``batch`` are what its recovery usually has unless they are given, which only a
    training may be.

    Raises:
        CahpError: If model, mask and data do not go together.
        UnwrittenError: If it cannot be written; it says what was found.
    """
    from cahp.models.folders import save_network
    from cahp.models.surgery import restore_shapes

    if how not in ("refit", "distill", "auto", "finetune"):
        raise OptionError(f"--recover {how} is unknown; choose refit, distill, auto or finetune")
    schedule = {"epochs": epochs, "learning_rate": learning_rate, "batch": batch}
    given = {name: one for name, one in schedule.items() if one is not None}
    if how == "refit" and given:
        raise OptionError(
            f"--{next(iter(given)).replace('_', '-')} is of a training, and a refit has none; leave it out, or use "
            "--recover distill or finetune"
        )
    card = identify_model(settings)
    output = claimed(out, card)
    keep = read_for(card, mask)[0]
    bench = open_bench(replace(settings, recover=how), store=store, card=card, progress=progress, watch=watch)
    document, recovered = _recovered(bench, keep, given)
    measurements = bench.measurements
    pruned = measurements.pruned(keep, recovered)
    found = {
        "model": bench.card.id,
        "data": {"id": bench.dataset.id, **vars(SplitRecord.of(settings.eval_split, bench.evaluation))},
        "kept": kept_heads(keep),
        **document,
        "notices": list(bench.notices),
    }
    with UnwrittenError.saying(found):
        save_network(restore_shapes(bench.model, pruned, keep), pruned.tokenizer, output)
    return found


def _recovered(bench: Bench, keep: HeadMask, given: Mapping[str, Any]) -> tuple[dict[str, Any], Recovered]:
    """What the recovery of the bench's settings makes, and what is said of it; ``given`` changes its schedule."""
    how, measurements, seed = bench.settings.recover, bench.measurements, bench.settings.seed

    def outcome(recovered: Recovered | None) -> Outcome:
        return outcomes(measurements, bench.evaluation, keep, recovered=recovered, seed=seed)

    if how == "refit":
        refitted = measurements.recover(keep, how)
        assert refitted is not None
        return {**vars(outcome(refitted)), "refit": refit_report(refitted)}, refitted
    trained: Recovered
    beside: Recovered | None
    said: dict[str, Any]
    if how == "finetune":
        from cahp.models.training import Schedule

        beside = None if bench.card.no_refit else measurements.refit(keep)
        trained = measurements.finetune(keep, schedule=replace(Schedule(), **given))
        said = {"epochs": list(trained.epochs)}
    else:
        from cahp.stages.distillation import SCHEDULE

        allowed = parse_duration(bench.settings.recover_time or RECOVER_TIME) if how == "auto" else None
        trained = measurements.distill(
            keep, labels=bench.settings.labels, seconds=allowed, schedule=replace(SCHEDULE, **given)
        )
        beside = trained.start
        said = {
            "distill": trained.report,
            "steps": steps(measurements, bench.evaluation, keep, trained, seed=seed),
        }
    found = {"refit": refit_report(beside)} if beside is not None else {}
    first, last = outcome(beside), outcome(trained)
    return {
        "metrics": BesideMetrics(**vars(last.metrics), refitted=first.metrics.recovered),
        "delta": BesideDeltas(**vars(last.delta), refitted=first.delta.recovered),
        **found,
        **said,
    }, trained
