"""``cahp experiment`` lists the scripts, and runs one with its own arguments."""

import sys
from pathlib import Path

import pytest
from terminal import call, refused

from cahp.cli import experiment

SCRIPT = '''"""Greet."""
import sys
from dataclasses import dataclass
from _beside import WORD
from cahp.values import OptionError

@dataclass
class Greeting:
    name: "str"

if sys.argv[1:] == ["refuse"]:
    raise OptionError("two\\nlines")
if sys.argv[1] == "exit":
    sys.exit(int(sys.argv[2]))
print(WORD, Greeting("you"), *sys.argv[1:])
'''


@pytest.fixture(autouse=True)
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "greet.py").write_text(SCRIPT)
    (folder / "_beside.py").write_text("WORD = 'shared'")
    monkeypatch.setattr("cahp.models.assets", lambda: tmp_path)


def test_scripts_are_listed_run_and_refuse() -> None:
    assert call("experiment").out.split() == ["greet", "Greet."]
    # A script gets all words after its name, and the modules beside it.
    before = (list(sys.argv), list(sys.path))
    answer = call("experiment", "greet", "--help", "-x", "--", "--out")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "shared Greeting(name='you') --help -x -- --out\n"
    assert (sys.argv, sys.path) == before
    # What a script refuses is one line, and its exit code is that of the command.
    assert refused(call("experiment", "greet", "refuse")) == "two lines"
    assert call("experiment", "greet", "exit", "3").code == 3
    assert call("experiment", "greet", "exit", "0").code == 0


@pytest.mark.parametrize("name", ["gret", "_beside", "../experiments/greet"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    assert refused(call("experiment", name)) == f"there is no experiment {name!r}; choose one of greet"


def test_each_script_of_the_project_says_what_it_does_and_explains_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = experiment.find_scripts()
    assert "quick_refits" in found
    for name, file in found.items():
        assert experiment.read_title(file).endswith("."), name
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, name
        answer = call("experiment", name, "--help")
        assert answer.code == 0, answer.err
        assert answer.out.startswith(f"usage: cahp experiment {name} "), name
