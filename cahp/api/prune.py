"""``cahp.prune``: choose the heads of a model, and measure the result."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

from cahp import models
from cahp import processes as parallel
from cahp.api.options import Name, Options, read_settings
from cahp.api.progress import ShowProgress, show_progress
from cahp.api.prune_result import PruneResult
from cahp.exports.recipe import recipe
from cahp.run.bench import open_bench
from cahp.run.prune import measure_run, method_of
from cahp.run.settings import Settings, describe
from cahp.store import Store
from cahp.studies.filling import fill
from cahp.studies.head_clusters import HeadClusters
from cahp.studies.table_file import table_of
from cahp.values import OptionError

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel


def prune(
    model: Name | HeadModel | Settings = Settings.model,
    data: Name | None = None,
    *,
    sweep: bool = False,
    command: str | None = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[Options],
) -> PruneResult:
    """Choose the heads that complement each other, and measure the costs and savings of keeping only them.

    ``cahp.prune("minilm-bbc", budget=20, recover="refit")`` does the same as ``cahp prune`` with these options. A
    second call finds the results of the first in the cache.

    Args:
        model: A built-in, a hub id, a folder, a model loaded by ``cahp.load``, or a ``Settings`` with all options.
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        sweep: Measure all other budgets, too, so that a report shows figures at each of them.
        command: The command line to record in the document (None: the shortest one that repeats the run).
        progress: None shows bars in a notebook and in an interactive terminal, True also in a script, False nowhere; a
            callable is called with ``(stage, done, total)`` instead, and may raise ``cahp.Cancelled``.
        yes: Agree to downloads of more than a gigabyte from the hub.
        store: The cache of results (None: the user's cache).
        **options: The other fields of ``cahp.Settings``, such as ``method``, ``recover`` and ``seed``; ``budget`` is
            the number of heads to keep: ``"auto"`` (the knee of the curve), a number, or a share such as ``"15%"``.

    Returns:
        The run. It shows itself in a notebook; see its ``mask``, ``metrics``, ``plot``, ``report`` and ``save``.

    Raises:
        CahpError: If model, data and options do not fit together; one line with the next step.
    """
    start = perf_counter()
    settings, loaded = _read_settings(model, data, options)
    method_of(settings)  # Refuses an unknown method before any data are fetched.
    if sweep and settings.method != Settings.method:
        raise OptionError(
            f"--sweep measures the budgets of {Settings.method} and not of {settings.method}; leave one out"
        )
    if sweep and parallel.world() > 1:
        raise OptionError("--sweep works in one process; start it without accelerate")
    with show_progress(progress, yes=yes) as reporter:
        bench = open_bench(settings, store=store, model=loaded, progress=reporter, watch=reporter.watch)
        run = measure_run(bench, recipe(settings).shell if command is None else command, start)
        table = None
        if sweep:
            table = table_of(run.document, HeadClusters.of(bench.evidence))
            for _ in fill(table, bench, reporter):
                pass
    return PruneResult(run.document, run.mask, run.arrays, bench=bench, table=table)


def _signature() -> inspect.Signature:
    """The signature with all options, for ``help`` and for completion in notebooks."""
    own = inspect.signature(prune)
    *first, _ = own.parameters.values()
    options = [
        inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, default=setting.default)
        for setting in describe().values()
        if setting.name not in own.parameters
    ]
    return own.replace(parameters=[*first, *options])


prune.__signature__ = _signature()  # type: ignore[attr-defined]


def _read_settings(
    model: Name | HeadModel | Settings, data: Name | None, options: Mapping[str, Any]
) -> tuple[Settings, HeadModel | None]:
    """The settings of a call, and the model if it is loaded; they name its prompt and device for other processes."""
    if isinstance(model, str | PathLike | Settings):
        return read_settings("prune", model, data, options), None
    # Imported here because it imports torch.
    from cahp.models.devices import find_device

    card, prompt, where = model.card, model.card.prompt, model.device.type
    own = {} if prompt is None else {"prompt": prompt.template, "answers": prompt.answers}
    missing = {name: value for name, value in own.items() if not options.get(name)}
    settings = read_settings("prune", models.name_of(card), data, {**options, **missing})
    if models.make_prompt(settings.prompt, settings.answers) != prompt:
        raise OptionError(
            f"{card.id} was loaded with {'no' if prompt is None else 'another'} prompt; give prompt and answers to "
            "cahp.load, or the model by its name"
        )
    if settings.device not in ("auto", where):
        raise OptionError(
            f"{card.id} was loaded on {where} and not on {settings.device}; leave device out, or give it to cahp.load"
        )
    return settings if find_device(settings.device).type == where else replace(settings, device=where), model
