"""The functions of ``cahp`` for what features measure, such as ``cahp.abilities``: one for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from cahp.api.options import Name, ShowProgress, read_mask_for, read_settings, show_progress
from cahp.run.bench import open_bench
from cahp.run.measures import MaskSubject, Measure, measure
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import HeadMask, OptionError

#: What the docstring of each function says after its own sentence.
_ARGUMENTS = """

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options.
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        mask: A head mask or its file (None: measure the full model only).
        recover: Also measure the model after this recovery, such as ``refit`` (None: as the ``Settings`` say).
        progress, yes, store: See ``cahp.prune``.
        **options: The options of the command of this name, by the names of ``cahp.Settings``.

    Raises:
        CahpError: If model, data and mask do not fit together; one line with the next step.
    """


def measure_mask(
    one: Measure[Any],
    settings: Settings,
    mask: HeadMask | Name | None = None,
    *,
    options: Any = None,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
) -> tuple[Any, MaskSubject]:
    """Measure one of a mask (None: of the full model), after the recovery of the settings; return what it is about.

    Raises:
        CahpError: If model, data, mask and options do not fit together.
    """
    if mask is None and settings.recover != Settings.recover:
        raise OptionError(f"--recover {settings.recover} needs a pruned model; give its mask with --mask")
    with show_progress(progress, yes=yes) as reporter:
        bench = open_bench(settings, store=store, progress=reporter)
        keep = HeadMask.full(bench.card.layers, bench.card.heads)
        recovered = None
        if mask is not None:
            keep = read_mask_for(bench.card, mask).mask
            bench.recoveries.check(settings.recover)
            recovered = bench.recoveries.recover(
                keep, settings.recover, labels=settings.labels, seconds=settings.recover_seconds
            )
        record = measure(one, bench, keep, recovered, options)
    return record, MaskSubject(keep, settings.recover, bench.card.unit)


def make_function(one: Measure[Any]) -> Callable[..., Any]:
    """Return the function of ``cahp`` that measures one; its result is the record of the measure."""
    own = {entry.name for entry in fields(one.options)}

    def function(
        model: Name | Settings = Settings.model,
        data: Name | None = None,
        *,
        mask: HeadMask | Name | None = None,
        recover: str | None = None,
        progress: ShowProgress = None,
        yes: bool = False,
        store: Store | None = None,
        **options: Any,
    ) -> Any:
        chosen = replace(one.options(), **{name: options.pop(name) for name in own & options.keys()})
        settings = read_settings("measure", model, data, options, own={"recover": recover})
        record, _ = measure_mask(one, settings, mask, options=chosen, progress=progress, yes=yes, store=store)
        return record

    function.__name__ = one.name
    function.__qualname__ = one.name
    function.__doc__ = one.help + _ARGUMENTS
    return function
