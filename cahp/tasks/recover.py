"""A model recovered under a mask, written as a checkpoint of the usual shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp.export.checkpoints import claimed
from cahp.export.masks import kept_heads, read_for
from cahp.output import Output, UnwrittenError
from cahp.recoveries import NONE, get_recovery
from cahp.run.bench import Bench, open_bench
from cahp.run.document import SplitRecord, outcome_records
from cahp.run.prune import measure_outcomes
from cahp.run.recovered import Recovered, refit_report
from cahp.run.recovery_steps import measure_steps
from cahp.run.settings import RECOVER_TIME, Settings, identify_model, parse_duration
from cahp.store import Store
from cahp.values import HeadMask, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


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

    recovery = get_recovery(how, choices=lambda row: row is not NONE)
    schedule = {"epochs": epochs, "learning_rate": learning_rate, "batch": batch}
    given = {name: one for name, one in schedule.items() if one is not None}
    if not recovery.trains and given:
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
    with UnwrittenError.carrying(found):
        save_network(restore_shapes(bench.model, pruned, keep), pruned.tokenizer, output)
    return found


def _recovered(bench: Bench, keep: HeadMask, given: Mapping[str, Any]) -> tuple[dict[str, Any], Recovered]:
    """Recover as the bench's settings say, with ``given`` changes to the schedule; return the record and the result.

    A training is measured beside the refit, as the model ``refitted``.
    """
    recovery, measurements, seed = get_recovery(bench.settings.recover), bench.measurements, bench.settings.seed
    beside: Recovered | None = None
    record: dict[str, Any] = {}
    recovered: Recovered | None
    if recovery.needs_labels:
        from cahp.models.training import Schedule

        beside = None if bench.card.no_refit else measurements.refit(keep)
        recovered = measurements.finetune(keep, schedule=replace(Schedule(), **given))
        record = {"epochs": list(recovered.epochs)}
    elif recovery.imitates:
        from cahp.stages.distillation import SCHEDULE

        allowed = parse_duration(bench.settings.recover_time or RECOVER_TIME) if recovery.timed else None
        recovered = measurements.distill(
            keep, labels=bench.settings.labels, seconds=allowed, schedule=replace(SCHEDULE, **given)
        )
        beside = recovered.start
        record = {
            "distill": recovered.report,
            "steps": measure_steps(measurements, bench.evaluation, keep, recovered, seed=seed),
        }
    else:
        recovered = measurements.recover(keep, recovery.name)
    assert recovered is not None
    states = measure_outcomes(measurements, bench.evaluation, keep, recovered=recovered, seed=seed)
    if recovery.trains:
        refitted = measure_outcomes(measurements, bench.evaluation, keep, recovered=beside, seed=seed).get("recovered")
        states = {**states, **({} if refitted is None else {"refitted": refitted})}
    refit = refit_report(recovered if beside is None else beside)
    return {**outcome_records(states), **({} if refit is None else {"refit": refit}), **record}, recovered
