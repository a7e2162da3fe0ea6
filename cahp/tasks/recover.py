"""A model recovered under a mask, written as a checkpoint of the usual shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cahp import models
from cahp.export.checkpoints import check_replaceable, writing_to
from cahp.export.masks import kept_heads, read_for
from cahp.run.bench import open_bench
from cahp.run.measurements import FineTuned, Refitted
from cahp.run.prune import outcomes, split_document
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError, Progress, silent

if TYPE_CHECKING:
    from cahp.models.training import Watch


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
    """Repair a model under a mask, write it to ``out`` as a checkpoint of the usual shapes, and measure it.

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
    workbench = bench.workbench
    refitted = None if how == "finetune" and card.no_refit else workbench.refit(keep)
    document = outcomes(workbench, bench.evaluation, keep, recovered=refitted, seed=settings.seed)
    if refitted is not None:
        document["refit"] = refitted.document
    recovered: Refitted | FineTuned | None = refitted
    if how == "finetune":
        tuned = workbench.tuned(
            keep, schedule=replace(Schedule(), epochs=epochs, learning_rate=learning_rate, batch=batch)
        )
        beside = outcomes(workbench, bench.evaluation, keep, recovered=tuned, seed=settings.seed)
        for table in ("metrics", "delta"):
            beside[table]["refitted"] = document[table]["recovered"]
        document |= {**beside, "epochs": list(tuned.epochs)}
        recovered = tuned
    pruned = workbench.pruned(keep, recovered)
    with writing_to(out):
        save_network(restore_shapes(workbench.model, pruned, keep), pruned.tokenizer, out.resolve())
    return {
        "model": bench.card.id,
        "data": {"id": bench.dataset.id, "split": settings.eval_split, **split_document(bench.evaluation)},
        "kept": kept_heads(keep),
        **document,
        "notices": list(bench.notices),
    }
