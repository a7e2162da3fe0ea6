"""The verbs of the command line are functions of the package, whatever was imported before."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.metadata import version
from pkgutil import walk_packages
from types import FunctionType

import pytest

import cahp
from cahp import cli

VERBS = ("prune", "evaluate", "latency", "recover", "export", "compare", "report", "fit")


@pytest.mark.parametrize("verb", [*VERBS, "roles", "abilities"])
def test_a_verb_is_a_function_with_a_readable_signature(verb: str) -> None:
    function = getattr(cahp, verb)
    assert isinstance(function, FunctionType)
    assert verb in {command.name for command in cli.COMMANDS}
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    assert inspect.Parameter.VAR_POSITIONAL not in kinds
    assert "Raises:" in str(function.__doc__)


def test_no_module_hides_a_name_of_the_surface() -> None:
    """Python binds an imported submodule to its name in the package, where it would replace a function."""
    modules = {module.name for module in walk_packages(cahp.__path__, "cahp.") if module.name.count(".") == 1}
    assert {name.removeprefix("cahp.") for name in modules} & set(cahp.__all__) == set()
    assert cahp.__version__ == version("cahp-explorer")
    for name in cahp.__all__:
        assert getattr(cahp, name).__module__.startswith("cahp"), name
    import_module("cahp.api.export")
    assert callable(cahp.export)
