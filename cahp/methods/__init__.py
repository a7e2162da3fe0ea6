"""Pruning methods, one file each; importing this package registers all of them.

A new method is a new file here with a class that ``cahp.methods.register`` decorates; nothing lists the files.
"""

from importlib import import_module
from pkgutil import iter_modules

from cahp.methods.shared.registry import (
    Evidence as Evidence,
    Method as Method,
    facts as facts,
    get as get,
    names as names,
    register as register,
)
from cahp.methods.shared.scored import Scored as Scored

# By name, so that the order is the same on every machine. The package in it holds what methods share.
for _module in sorted(iter_modules(__path__), key=lambda module: module.name):
    if not _module.ispkg:
        import_module(f"{__name__}.{_module.name}")
