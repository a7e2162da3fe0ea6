"""``cahp.export``: a pruned model as a folder that other tools load, or a mask as another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from cahp.api.options import ModelOptions, Name, read_settings
from cahp.api.progress import ShowProgress, show_progress
from cahp.exports import take_home
from cahp.output import Output
from cahp.run.settings import Settings
from cahp.store import Store


def export(
    model: Name | Settings = Settings.model,
    data: Name | None = None,
    *,
    mask: Name,
    out: Name | Output,
    format: str = "compact",
    recover: str | None = None,
    command: str = "",
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[ModelOptions],
) -> dict[str, Any]:
    """Write a pruned model in a format for other tools, and compare it with the model in memory; or convert a mask.

    Args:
        model: A built-in, a hub id or a folder; or a ``Settings`` with all options.
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        mask: The file of a head mask.
        out: The folder to write to.
        format: Name of the format; an unknown name lists all formats.
        recover: The recovery (None: ``"auto"`` if there are data, else ``"none"``).
        command: The command line to record in the model card.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp export``, by the names of ``cahp.Settings``.

    Returns:
        The document that ``cahp export --json`` prints.

    Raises:
        CahpError: If model, mask, data and format do not fit together, or the written model gives other answers.
        UnwrittenError: If the folder cannot be written; the error carries the document.
    """
    settings = read_settings("export", model, data, options)
    with show_progress(progress, yes=yes) as reporter:
        return take_home.export(
            settings,
            mask=Path(mask),
            form=format,
            out=out if isinstance(out, Output) else Path(out),
            how=recover,
            time=settings.latency,
            command=command,
            store=store,
            progress=reporter,
            watch=reporter.watch,
        )
