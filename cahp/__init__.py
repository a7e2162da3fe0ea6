"""CAHP Explorer: see which attention heads of a transformer attend in a similar way, and keep one of each group.

The names below are the public surface, with the verbs of the command line; importing them costs nothing until the
first is used.
"""

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from cahp import methods as methods
    from cahp.api.compare import CompareResult as CompareResult, compare as compare
    from cahp.api.evaluate import attribute as attribute, evaluate as evaluate, latency as latency, roles as roles
    from cahp.api.export import export as export, recover as recover, report as report
    from cahp.api.fit import fit as fit
    from cahp.api.prune import PruneResult as PruneResult, prune as prune
    from cahp.api.similarity import SimilarityResult as SimilarityResult, similarity as similarity
    from cahp.exports.masks import read_mask as read_mask, read_mask_record as read_mask_record
    from cahp.exports.run_folder import write_run as write_run
    from cahp.models import load as load
    from cahp.models.compact import load_pruned as load_pruned
    from cahp.models.surgery import cut as cut, masked as masked
    from cahp.run.bench import open_bench as open_bench
    from cahp.run.prune import Run as Run
    from cahp.run.settings import Settings as Settings
    from cahp.tasks.texts import Texts as Texts
    from cahp.values import CahpError as CahpError, Cancelled as Cancelled, HeadMask as HeadMask

_HOMES = {
    name: home
    for home, names in {
        "api.compare": ("CompareResult", "compare"),
        "api.evaluate": ("attribute", "evaluate", "latency", "roles"),
        "api.export": ("export", "recover", "report"),
        "api.fit": ("fit",),
        "api.prune": ("PruneResult", "prune"),
        "api.similarity": ("SimilarityResult", "similarity"),
        "exports.masks": ("read_mask", "read_mask_record"),
        "exports.run_folder": ("write_run",),
        "models": ("load",),
        "models.compact": ("load_pruned",),
        "models.surgery": ("cut", "masked"),
        "run.bench": ("open_bench",),
        "run.prune": ("Run",),
        "run.settings": ("Settings",),
        "values": ("CahpError", "Cancelled", "HeadMask"),
        "tasks.texts": ("Texts",),
    }.items()
    for name in names
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import, so each module is imported when it is first used.
    if name == "__version__":
        return version("cahp-explorer")
    if name == "methods":
        return import_module("cahp.methods")
    if name in _HOMES:
        return getattr(import_module(f"cahp.{_HOMES[name]}"), name)
    # A module of this name is imported by who asks for it; the table of features must not be read meanwhile.
    if not name.startswith("_") and find_spec(f"cahp.{name}") is None:
        for measure in import_module("cahp.features").measures():
            if measure.name == name and measure.commanded:
                return import_module("cahp.api.evaluate").make_function(measure)
    raise AttributeError(f"module 'cahp' has no attribute {name!r}")


def __dir__() -> list[str]:
    measures = import_module("cahp.features").measures()
    return sorted([*__all__, *(measure.name for measure in measures if measure.commanded)])
