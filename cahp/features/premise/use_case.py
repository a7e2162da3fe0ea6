"""``cahp.premise``: the test of CAHP's premise, that heads of one cluster are redundant."""

from __future__ import annotations

from typing import Any, Unpack

from cahp.api.options import Name, Options, ShowProgress, read_settings, show_progress
from cahp.features.premise.measuring import TEXTS, TOKENS, measure
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.store import Store
from cahp.values import OptionError


def premise(
    model: Name | Settings = Settings.model,
    data: Name | None = None,
    *,
    pairs: int | None = None,
    control: bool = False,
    refit: bool = False,
    progress: ShowProgress = None,
    yes: bool = False,
    store: Store | None = None,
    **options: Unpack[Options],
) -> dict[str, Any]:
    """Test whether heads of one cluster are redundant, by removing pairs of heads (``cahp.features.premise``).

    Args:
        model: A built-in, a hub id, a folder or a GGUF file; or a ``Settings`` with all options.
        data: A built-in, a file, a folder or ``hub:org/name`` (None: the data that belong to the model).
        pairs: Number of pairs (None: all within clusters, and as many between clusters).
        control: Divide heads into two equal halves first, which the test must find (positive control).
        refit: Also compare measures of redundancy with the cost after a refit without each head.
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp premise``, by the names of ``cahp.Settings``; without ``Settings``,
            ``eval_limit`` is 100 and ``eval_tokens`` 2,048.

    Returns:
        The document that ``cahp premise --json`` prints.

    Raises:
        CahpError: If model and data cannot be used together, or the clusters have no pairs; one line with the next
            step.
    """
    defaults = {"eval_limit": TEXTS, "eval_tokens": TOKENS}
    settings = read_settings("premise", model, data, options, defaults=defaults)
    if settings.precision != "float32":
        raise OptionError(
            "the premise is tested in float32, so that rounding has no effect; leave precision out of the Settings"
        )
    with show_progress(progress, yes=yes) as reporter:
        bench = open_bench(settings, store=store, progress=reporter)
        return measure(bench, pairs=pairs, control=control, refit=refit)
