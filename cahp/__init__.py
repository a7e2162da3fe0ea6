"""CAHP Explorer: see which attention heads of a transformer complement each other, and keep only those.

The names below are the public surface; importing them costs nothing until the first is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.api.compared import CompareResult, compare
    from cahp.api.pruned import PruneResult
    from cahp.api.pruning import prune
    from cahp.api.similar import SimilarityResult, similarity
    from cahp.export.masks import read_mask
    from cahp.export.run_folder import write_run
    from cahp.models import load
    from cahp.models.compact import load_pruned
    from cahp.models.surgery import cut
    from cahp.run.bench import open_bench
    from cahp.run.prune import Run
    from cahp.run.settings import Settings
    from cahp.stages.evaluation import evaluate
    from cahp.stages.recovery import refit
    from cahp.values import CahpError, Cancelled, HeadMask, Texts

__all__ = [
    "CahpError",
    "Cancelled",
    "CompareResult",
    "HeadMask",
    "PruneResult",
    "Run",
    "Settings",
    "SimilarityResult",
    "Texts",
    "compare",
    "cut",
    "evaluate",
    "load",
    "load_pruned",
    "open_bench",
    "prune",
    "read_mask",
    "refit",
    "similarity",
    "write_run",
]

_HOMES = {
    "CahpError": "values",
    "Cancelled": "values",
    "CompareResult": "api.compared",
    "HeadMask": "values",
    "PruneResult": "api.pruned",
    "Run": "run.prune",
    "Settings": "run.settings",
    "SimilarityResult": "api.similar",
    "Texts": "values",
    "compare": "api.compared",
    "cut": "models.surgery",
    "evaluate": "stages.evaluation",
    "load": "models",
    "load_pruned": "models.compact",
    "open_bench": "run.bench",
    "prune": "api.pruning",
    "read_mask": "export.masks",
    "refit": "stages.recovery",
    "similarity": "api.similar",
    "write_run": "export.run_folder",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import, so nothing that needs them is touched before it is asked for.
    if name not in _HOMES:
        raise AttributeError(f"module 'cahp' has no attribute {name!r}")
    return getattr(import_module(f"cahp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
