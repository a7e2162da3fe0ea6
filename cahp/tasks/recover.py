"""A model recovered under a mask, written as a checkpoint of the usual shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp import models
from cahp.export.checkpoints import check_replaceable, writing_to
from cahp.export.masks import kept_heads, read_for
from cahp.run.bench import open_bench
from cahp.run.document import SplitRecord, StateDeltas, StateMetrics
from cahp.run.measurements import Recovered
from cahp.run.prune import outcomes
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import Delta, Metrics, OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


@dataclass(frozen=True)
class BesideMetrics(StateMetrics):
    """Quality of the fine-tuned model (``recovered``) beside that of the refitted one."""

    refitted: Metrics | None


@dataclass(frozen=True)
class BesideDeltas(StateDeltas):
    """Accuracy of the fine-tuned model (``recovered``) and of the refitted one against the full one."""

    refitted: Delta | None


def recover(
    settings: Settings,
    *,
    mask: Path,
    out: Path,
    how: str = "refit",
    epochs: int = 3,
    learning_rate: float = 2e-5,
    batch: int = 32,
    store: Store | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Recover a model under a mask, write it to ``out`` as a checkpoint of the usual shapes, and measure it.

    The pruned heads' output weights are zero there, so any tool that loads the original loads this. Fine-tuning, which
    ``watch`` sees, is measured beside the refit (``metrics.refitted``, ``delta.refitted``) where there can be one.
    """
    from cahp.models.folders import save_network
    from cahp.models.surgery import restore_shapes
    from cahp.models.training import Schedule

    if how not in ("refit", "finetune"):
        raise OptionError(f"--recover {how} is unknown; choose refit or finetune")
    card = models.identify(settings.model)
    check_replaceable(out, card)
    keep = read_for(card, mask)[0]
    bench = open_bench(settings, store=store, card=card, progress=progress, watch=watch)
    measurements = bench.measurements
    refitted = None if how == "finetune" and card.no_refit else measurements.refit(keep)
    outcome = outcomes(measurements, bench.evaluation, keep, recovered=refitted, seed=settings.seed)
    document: dict[str, Any] = dict(vars(outcome))
    if refitted is not None:
        document["refit"] = refitted.report
    recovered: Recovered | None = refitted
    if how == "finetune":
        tuned = measurements.finetune(
            keep, schedule=replace(Schedule(), epochs=epochs, learning_rate=learning_rate, batch=batch)
        )
        beside = outcomes(measurements, bench.evaluation, keep, recovered=tuned, seed=settings.seed)
        document["metrics"] = BesideMetrics(**vars(beside.metrics), refitted=outcome.metrics.recovered)
        document["delta"] = BesideDeltas(**vars(beside.delta), refitted=outcome.delta.recovered)
        document["epochs"] = list(tuned.epochs)
        recovered = tuned
    pruned = measurements.pruned(keep, recovered)
    with writing_to(out):
        save_network(restore_shapes(bench.model, pruned, keep), pruned.tokenizer, out.resolve())
    return {
        "model": bench.card.id,
        "data": {"id": bench.dataset.id, **vars(SplitRecord.of(settings.eval_split, bench.evaluation))},
        "kept": kept_heads(keep),
        **document,
        "notices": list(bench.notices),
    }
