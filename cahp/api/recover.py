"""``cahp.recover``: recover a pruned model, and write it as a plain checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from cahp.api.options import ModelOptions, Name, read_mask_for, read_settings
from cahp.api.progress import ShowProgress, show_progress
from cahp.exports import checkpoints
from cahp.exports.masks import kept_heads
from cahp.output import Output, UnwrittenError
from cahp.recoveries import NONE, RECOVERIES, get_recovery
from cahp.run.bench import open_bench
from cahp.run.document import SplitRecord, outcome_records
from cahp.run.prune import measure_outcomes
from cahp.run.recovered import Distilled, cut_model
from cahp.run.settings import Settings, identify_model
from cahp.store import Store
from cahp.values import HeadMask, OptionError


def recover(
    model: Name | Settings = Settings.model,
    data: Name | None = None,
    *,
    mask: HeadMask | Name,
    out: Name | Output,
    recover: str = "auto",
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch: int | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Recover a pruned model, write it to ``out`` as a checkpoint of the original shapes, and evaluate it.

    The output weights of pruned heads are zero, so any tool that loads the original model loads this one.

    Args:
        model: A built-in, a hub id or a folder; or a ``Settings`` with all options.
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        mask: A head mask or its file.
        out: The folder to write to.
        recover: The recovery; see ``cahp.recoveries``.
        epochs: Number of epochs of a training (None: the recovery's default), as are the next two.
        learning_rate: Highest learning rate.
        batch: Number of texts per batch.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp recover``, by the names of ``cahp.Settings``.

    Returns:
        The document that ``cahp recover --json`` prints. After a training, ``metrics.refitted`` and ``delta.refitted``
        belong to the refitted model.

    Raises:
        CahpError: If model, mask and data do not fit together; one line with the next step.
        UnwrittenError: If the folder cannot be written; the error carries the document.
    """
    from cahp.models.fitting import save_network
    from cahp.models.surgery import restore_shapes

    settings = replace(read_settings("recover", model, data, options), recover=recover)
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch": batch}
    schedule = {name: value for name, value in given.items() if value is not None}
    with show_progress(progress, yes=yes) as reporter:
        recovery = get_recovery(settings.recover, choices=lambda row: row is not NONE)
        if schedule and not recovery.trains:
            trainings = ", ".join(row.name for row in RECOVERIES.values() if row.trains)
            flag = f"--{next(iter(schedule)).replace('_', '-')}"
            raise OptionError(
                f"{flag} needs a training, and {recovery.name} has none; leave it out, or choose one of --recover "
                f"{trainings}"
            )
        card = identify_model(settings)
        output = checkpoints.claimed(Output.of(out), card)
        keep = read_mask_for(card, mask)[0]
        bench = open_bench(settings, store=store, card=card, progress=reporter, watch=reporter.watch)
        results, recovered = checkpoints.recovered(bench, keep, recover=recovery.name, schedule=schedule)
        # A training is measured beside the refit, as the model ``refitted``.
        refitted = recovered.start if isinstance(recovered, Distilled) else None
        if recovery.needs_labels and not card.no_refit:
            refitted = bench.recoveries.refit(keep)
            results["refit"] = refitted.report
        if refitted is not None:
            beside = measure_outcomes(
                bench.measurements, bench.evaluation, keep, recovered=refitted, seed=settings.seed
            )
            results |= outcome_records({**results["outcomes"], "refitted": beside["recovered"]})
        pruned = cut_model(bench.model, keep, recovered)
        document = {
            "model": card.id,
            "data": SplitRecord.of(settings.eval_split, bench.evaluation).with_id(bench.dataset.id),
            "kept": kept_heads(keep),
            **results,
            "notices": list(bench.notices),
        }
        with UnwrittenError.carrying(document):
            save_network(restore_shapes(bench.model, pruned, keep), pruned.tokenizer, output)
        return document
