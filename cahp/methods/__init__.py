"""Ways to choose heads, one file each; importing this package registers them all, so ask it which there are.

A new method is a new file here with a class that ``cahp.registry.register`` decorates; nothing lists the files.
"""

from importlib import import_module
from pkgutil import iter_modules

from cahp.registry import facts, get, names

__all__ = ["facts", "get", "names"]

# By name, so that the order is the same on every machine. What is a package holds what methods share.
for _found in sorted(iter_modules(__path__), key=lambda found: found.name):
    if not _found.ispkg:
        import_module(f"{__name__}.{_found.name}")
