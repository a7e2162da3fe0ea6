"""The command line as a whole: its help, what it cannot parse, and what several commands have in common."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from terminal import call, refused
from typer.main import get_command

from cahp.cli import COMMANDS, app
from cahp.cli.command import Command

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("words", [[], *([command.name] for command in COMMANDS)], ids=str)
def test_the_help_fits_80_columns_and_cuts_no_sentence(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = call(*words, "--help-all" if words else "--help")
    assert answer.code == 0
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "…" not in answer.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_has_an_example_that_it_understands(command: Command) -> None:
    program, name, *words = shlex.split(command.example)
    assert (program, name) == ("cahp", command.name)
    assert len(command.example) <= 80 - len("  Example: ")
    parsers = get_command(app).commands  # type: ignore[attr-defined]
    parsers[name].make_context(name, words)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_lists_the_common_options_and_help_all_lists_all(command: Command) -> None:
    def listed(word: str) -> set[str]:
        help = call(command.name, word).out
        return set(re.findall(r"^│ (?:\*  |   )?(--[a-z-]+)", help, re.MULTILINE))

    flags = {}
    for option in command.options:
        if not option.argument:
            flag = next(iter(option.flags), f"--{option.name.replace('_', '-')}")
            flags[flag.partition("/")[0]] = option.common
    more = {"--help", "--help-all"}
    assert listed("--help-all") == {*flags, *more}
    assert listed("--help") == {flag for flag, common in flags.items() if common} | more
    pointer = f"All options: cahp {command.name} --help-all"
    assert (pointer in call(command.name, "--help").out) == (not all(flags.values()))


def test_a_launcher_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    sentence = "cahp works in one process; start it without accelerate or torchrun, or unset WORLD_SIZE"
    assert refused(call("prune")) == sentence


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").out.strip() == f"cahp {version('cahp-explorer')}"


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("nonsense", "'nonsense'"),
        ("prune --nonsense", "--nonsense"),
        ("prune --limit many", "--limit"),
        ("prune extra", "extra"),
        ("latency", "--mask"),
        ("fit --data reviews", "--out"),
        ("latency --mask m --length 1", "--length"),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence_that_points_to_the_help(asked: str, named: str) -> None:
    said = refused(call(*asked.split()))
    assert named in said
    assert "see `cahp" in said
    assert said.endswith(" --help`")


@pytest.mark.parametrize("command", ["evaluate", "latency", "recover"])
def test_a_mask_that_cannot_be_used_is_refused(command: str, model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"7": [0]}))
    (tmp_path / "broken.json").write_text("{")
    # The data of evaluate are not there: that they are not what is complained about shows what came first.
    options = {"evaluate": ["--data", "none"], "latency": [], "recover": ["--data", data, "--out", tmp_path / "out"]}
    for mask, named in (("other.json", "3 layers"), ("broken.json", "head_mask.json"), ("none.json", "No such file")):
        assert named in refused(call(command, "--model", model, *options[command], "--mask", tmp_path / mask))
    assert not (tmp_path / "out").exists()


def test_the_reader_of_a_pipe_may_leave_early() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from cahp.cli import main; main()", "data"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
