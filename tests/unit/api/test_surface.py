"""The verbs of the command line are functions of the package, and show progress where a person waits."""

import inspect
import sys
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
from cahp.api.options import Interrupted, show_progress
from cahp.run.resources import on_screen

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
        (lambda: cahp.prune("minilm-bbc", [["a text"]]), "holds list<element: string>, not text or numbers"),
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


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that a person types into."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_a_script_shows_nothing_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress(None) as reporter:
        reporter("load", 1, 2)
        reporter.say("nothing")
    assert capsys.readouterr() == ("", "")


def test_a_person_sees_bars_that_disappear(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_terminal(monkeypatch)
    with show_progress(False) as reporter:
        reporter("load", 1, 2)
    assert capsys.readouterr() == ("", "")
    with show_progress(None) as reporter:
        for done in range(1001):
            reporter("signatures", done, 1000)
        reporter("load", 1, 2)
        reporter.say("epoch 1")
        shown = capsys.readouterr()
    assert shown.out == ""
    assert on_screen("load") in shown.err
    assert on_screen("signatures") in shown.err
    assert "epoch 1\n" in shown.err
    # A bar that is drawn at every report only flickers.
    assert shown.err.count(on_screen("signatures")) < 100
    # The bar that was open is overwritten with blanks.
    assert capsys.readouterr().err.strip() == ""


def test_bars_are_drawn_in_a_notebook(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("cahp.api.options.in_notebook", lambda: True)
    with show_progress(None) as reporter:
        reporter("load", 0, 1)
        assert on_screen("load") in capsys.readouterr().err


def test_a_callable_is_called_instead(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pretend_terminal(monkeypatch)
    calls: list[tuple[str, int, int]] = []
    with show_progress(lambda *call: calls.append(call)) as reporter:
        reporter("load", 1, 1)
    assert calls == [("load", 1, 1)]
    assert capsys.readouterr() == ("", "")


def test_a_stopped_call_is_one_sentence_for_the_person_who_stopped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt) as stopped, show_progress(None):
        raise KeyboardInterrupt
    assert isinstance(stopped.value, Interrupted)
    assert stopped.value._render_traceback_() == [
        "stopped; finished measurements are cached, and the same call resumes from there"
    ]
