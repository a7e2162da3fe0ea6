"""The verbs of the command line are functions of the package, whatever was imported before."""

import inspect
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pkgutil import walk_packages
from types import FunctionType

import numpy as np
import pytest
from torch import nn

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


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (
            lambda: cahp.prune(nn.Linear(2, 2)),
            "model is a name, a path or Settings, not torch.nn.modules.linear.Linear",
        ),
        (lambda: cahp.prune(None), "model is a name, a path or Settings, not NoneType"),
        (lambda: cahp.prune("minilm-bbc", [["a text"]]), "data is a name or a path, not list"),
        (
            lambda: cahp.Settings(data=np.eye(2)),
            r"--data cannot be array\(\[\[1., 0.\], \[0., 1.\]\]\) \(Expected `str`",
        ),
        (lambda: cahp.roles(nn.Linear(2, 2)), "model is a name, a path or Settings"),
        (lambda: cahp.attribute(nn.Linear(2, 2), "a text"), "model is a name, a path or Settings"),
        (lambda: cahp.similarity(nn.Linear(2, 2), "a text"), "a model is loaded by its name"),
        (lambda: cahp.load(nn.Linear(2, 2)), "a model is loaded by its name, its folder or its card, not from Linear"),
        (lambda: cahp.cut("minilm-bbc", np.ones((6, 12))), "cut takes a model that `cahp.load` returned, not str"),
        (lambda: cahp.HeadMask([1, 2]), r"a mask is an array \(layers, heads\) of True and False"),
        (lambda: cahp.HeadMask([[1, 2], [0, 1]]), "of 1 and 0, not int64"),
        (lambda: cahp.HeadMask([[1], [0, 1]]), "a mask has as many heads in every layer"),
    ],
)
def test_what_cannot_be_used_raises_one_sentence_of_ours(call: Callable[[], object], reason: str) -> None:
    with pytest.raises(cahp.CahpError, match=reason):
        call()


def test_a_mask_may_be_an_array_or_rows_of_ones_and_zeros() -> None:
    mask = cahp.HeadMask(np.array([[1, 0], [0, 1]]))
    assert mask.keep.dtype == np.bool_
    assert mask.sha256 == cahp.HeadMask([[True, False], [False, True]]).sha256
