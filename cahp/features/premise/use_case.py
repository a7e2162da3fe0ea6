"""``cahp.premise``: the test of CAHP's premise, that heads of one cluster are redundant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack

from cahp.api.options import Name, Options, ShowProgress, read_settings, show_progress
from cahp.features.premise.measuring import TEXTS, TOKENS, measure
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.store import Store


def premise(
    model: Name | Settings = Settings.model,
    data: Name | None = None,
    *,
    pairs: int | None = None,
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
        progress, yes, store: See ``cahp.prune``.
        **options: The options of ``cahp premise``, by the names of ``cahp.Settings``; ``eval_limit`` is 100 and
            ``eval_tokens`` 2,048.

    Returns:
        The document that ``cahp premise --json`` prints.

    Raises:
        CahpError: If model and data cannot be used together, or the clusters have no pairs; one line with the next
            step.
    """
    defaults: Options = {} if isinstance(model, Settings) else {"eval_limit": TEXTS, "eval_tokens": TOKENS}
    settings = replace(read_settings("premise", model, data, {**defaults, **options}), precision="float32")
    with show_progress(progress, yes=yes) as reporter:
        return measure(open_bench(settings, store=store, progress=reporter), pairs=pairs)
