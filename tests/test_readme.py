"""What the README shows is executed, and what it lists is what there is."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from cahp import cli
from cahp.export import formats
from cahp.words import percent

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line.split("#")[0].strip() for language, block in BLOCKS if not language for line in block.splitlines()]
CALLS = [shlex.split(line) for line in LINES if line.startswith("cahp ")]
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def test_the_first_screen_holds_the_two_commands() -> None:
    first = README.splitlines()[:25]
    assert any(line.startswith("make run") for line in first)
    assert any(line.startswith("make test") for line in first)


def test_what_it_shows_and_links_is_there_and_burdens_no_clone_and_no_wheel() -> None:
    root = Path(__file__).parents[1]
    linked = set(re.findall(r"""(?:src|srcset)=["'](.+?)["']|\]\((assets/.+?)\)""", README.replace("\n", " ")))
    files = [root / (shown or link) for shown, link in linked]
    assert len(files) >= 5
    assert [file for file in files if not file.is_file()] == []
    assert sum(file.stat().st_size for file in (root / "assets/pictures").iterdir()) < 600_000
    shipped = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    parts = {f"assets/{part.name}" for part in (root / "assets").iterdir() if part.name != "pictures"}
    assert {path for path in shipped["force-include"] if path.startswith("assets")} == parts


def test_every_command_is_listed_and_every_listed_command_exists() -> None:
    listed = set(re.findall(r"`cahp (\w+)`", README.split("## Commands")[1].split("###")[0]))
    assert listed == set(COMMANDS)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_the_options_that_are_shown_exist(call: list[str]) -> None:
    known = {name for parameter in COMMANDS[call[1]].params for name in parameter.opts + parameter.secondary_opts}
    assert {word for word in call[2:] if word.startswith("--")} <= known


def test_the_table_of_exports_is_the_table_of_forms() -> None:
    table = README.split("<!-- forms -->")[1].split("<!-- /forms -->")[0].strip().splitlines()[2:]
    said = README.split("<!-- /forms -->")[1].split("###")[0]
    exact = [form for form in formats.model_forms() if form.rounded is None]
    assert all(f"{form.tolerance:.0e}".replace("e-0", "e-") in said for form in exact)
    rounded = [form.rounded.agreement for form in formats.model_forms() if form.rounded is not None]
    assert all(percent(share, 0) in said for share in rounded)
    extras = {form.key: f" (extra `{form.extra}`)" for form in formats.model_forms() if form.extra}
    assert table == [
        f"| `{form.key}` | {form.words}{extras.get(form.key, '')} | {form.loads} |" for form in formats.FORMS
    ]


@pytest.mark.slow
def test_the_one_line_answer_comes_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (call,) = [call for call in CALLS if call[:2] == ["cahp", "prune"] and {"minilm-bbc", "refit"} <= set(call)]
    monkeypatch.chdir(tmp_path)
    assert cli.run(call[1:]) == 0
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["budget"] == {"requested": 20, "attained": 20}
    printed = capsys.readouterr().out
    assert "20 of 72 heads kept" in printed
    assert f"{run['metrics']['pruned']['accuracy'] * 100:.1f} %" in printed


@pytest.mark.nightly
def test_the_recipes_in_python_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("plotly", reason="what draws figures is not installed")
    recipes = [block for language, block in BLOCKS if language == "python"]
    assert len(recipes) == 4
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for recipe in recipes:
        exec(compile(recipe, "README.md", "exec"), names)
    before, after = (int(number.replace(",", "")) for number in re.findall(r"[\d,]{6,}", capsys.readouterr().out)[-2:])
    assert after < before
    assert "20 of 72 heads kept" in str(names["run"])
    assert "20 of 72 attention heads kept" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "run.json").is_file()
    assert {one.method for one in names["found"].summary.means} == {"complementary", "magnitude"}
