"""Pruning methods, one file each; importing this package registers all of them.

A new method is a new file here with a class that ``cahp.methods.shared.registry.register`` decorates; nothing lists
the files.
"""

from importlib import import_module
from pkgutil import iter_modules

from cahp.methods.shared.registry import facts, get, names

__all__ = ["facts", "get", "names"]

# By name, so that the order is the same on every machine. The package in it holds what methods share.
for _module in sorted(iter_modules(__path__), key=lambda module: module.name):
    if not _module.ispkg:
        import_module(f"{__name__}.{_module.name}")
