"""CAHP Explorer: see which attention heads of a transformer complement each other, and keep only those.

The names below are the public surface, with the verbs of the command line; importing them costs nothing until the
first is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cahp.api.compare import CompareResult, compare
    from cahp.api.evaluate import evaluate, latency
    from cahp.api.export import export
    from cahp.api.fit import fit
    from cahp.api.prune import prune
    from cahp.api.prune_result import PruneResult
    from cahp.api.recover import recover
    from cahp.api.report import report
    from cahp.api.reproduce import reproduce
    from cahp.api.similarity import SimilarityResult, similarity
    from cahp.exports.masks import read_mask
    from cahp.exports.run_folder import write_run
    from cahp.models import load
    from cahp.models.compact import load_pruned
    from cahp.models.surgery import cut
    from cahp.run.bench import open_bench
    from cahp.run.prune import Run
    from cahp.run.settings import Settings
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
    "export",
    "fit",
    "latency",
    "load",
    "load_pruned",
    "open_bench",
    "prune",
    "read_mask",
    "recover",
    "report",
    "reproduce",
    "similarity",
    "write_run",
]

_HOMES = {
    "CahpError": "values",
    "Cancelled": "values",
    "CompareResult": "api.compare",
    "HeadMask": "values",
    "PruneResult": "api.prune_result",
    "Run": "run.prune",
    "Settings": "run.settings",
    "SimilarityResult": "api.similarity",
    "Texts": "values",
    "compare": "api.compare",
    "cut": "models.surgery",
    "evaluate": "api.evaluate",
    "export": "api.export",
    "fit": "api.fit",
    "latency": "api.evaluate",
    "load": "models",
    "load_pruned": "models.compact",
    "open_bench": "run.bench",
    "prune": "api.prune",
    "read_mask": "exports.masks",
    "recover": "api.recover",
    "report": "api.report",
    "reproduce": "api.reproduce",
    "similarity": "api.similarity",
    "write_run": "exports.run_folder",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import, so each module is imported when it is first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'cahp' has no attribute {name!r}")
    return getattr(import_module(f"cahp.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
