"""CAHP Explorer: see which attention heads of a transformer complement each other, and keep only those.

The names below are the public surface; importing them costs nothing until the first is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.export.masks import read_mask
    from cahp.export.run_folder import write_run
    from cahp.models import load
    from cahp.models.compact import load_pruned
    from cahp.models.surgery import cut
    from cahp.run.bench import open_bench
    from cahp.run.prune import Run, prune
    from cahp.run.settings import Settings
    from cahp.stages.evaluation import evaluate
    from cahp.stages.recovery import refit
    from cahp.values import CahpError, Cancelled, HeadMask, Texts

__all__ = [
    "CahpError",
    "Cancelled",
    "HeadMask",
    "Run",
    "Settings",
    "Texts",
    "cut",
    "evaluate",
    "load",
    "load_pruned",
    "open_bench",
    "prune",
    "read_mask",
    "refit",
    "write_run",
]

_HOMES = {
    "CahpError": "values",
    "Cancelled": "values",
    "HeadMask": "values",
    "Run": "run.prune",
    "Settings": "run.settings",
    "Texts": "values",
    "cut": "models.surgery",
    "evaluate": "stages.evaluation",
    "load": "models",
    "load_pruned": "models.compact",
    "open_bench": "run.bench",
    "prune": "run.prune",
    "read_mask": "export.masks",
    "refit": "stages.recovery",
    "write_run": "export.run_folder",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import, so nothing that needs them is touched before it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module 'cahp' has no attribute {name!r}")
    return getattr(import_module(f"cahp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
