"""The command line as a whole: its help, what it cannot parse, and what several commands have in common."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings, strategies as st
from terminal import call, refused
from typer.main import get_command

from cahp import cli, methods
from cahp.cli import COMMANDS, app
from cahp.cli.command import OPTIONS, REQUIRED, Command
from cahp.run.settings import Setting, Settings, describe, flags, to_arguments

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


def test_the_version_is_told_and_a_launcher_of_several_processes_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("--version").out.strip() == f"cahp {version('cahp-explorer')}"
    monkeypatch.setenv("WORLD_SIZE", "2")
    sentence = "cahp works in one process; start it without accelerate or torchrun, or unset WORLD_SIZE"
    assert refused(call("prune")) == sentence


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("nonsense", "'nonsense'"),
        ("prune --nonsense", "--nonsense"),
        ("prune --limit many", "--limit"),
        ("prune one extra", "extra"),
        ("fit --data reviews", "--out"),
        ("latency --mask m --length many", "--length"),
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


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond some bytes: as on a full disk, but for the error's number."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(sys.platform == "win32", reason="files have a largest size as on POSIX")
def test_a_full_disk_costs_no_result(words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, asked = tmp_path / "cache", [*words, "--budget", 5, "--quiet"]
    monkeypatch.setenv("CAHP_CACHE", str(cache))
    with full_disk():
        answer = call(*asked, "--json", "--out", tmp_path / "out")
    assert answer.code == 2
    (sentence,) = [line for line in answer.err.splitlines() if line.startswith("cahp: ")]
    assert "Cannot write to" in sentence
    assert "File too large" in sentence
    assert "Traceback" not in answer.err
    run = answer.document
    assert sum(map(len, run["kept"].values())) == 5
    assert not (tmp_path / "out").exists()
    assert not list(cache.rglob("*.entry"))
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    # With room again it is as it would have been.
    again = call(*asked, "--json", "--out", tmp_path / "out")
    assert again.code == 0
    assert again.document["kept"] == json.loads((tmp_path / "out" / "run.json").read_text())["kept"] == run["kept"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("words", [["--help"], ["data", "--json"]])
def test_a_closed_output_gives_one_sentence(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "cahp", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=ROOT, text=True, check=False)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("cahp: the output cannot be written (No space left on device)")


PARSERS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
COMMANDS = {one.name: one for one in cli.COMMANDS}
FILLING = {name: [option for option in one.options if option.fills] for name, one in COMMANDS.items()}
NAMED = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
LABELS = NAMED.filter(lambda label: "=" not in label and label == label.strip())
AWKWARD = st.sampled_from(['"', '"a', 'a"', "a,b", "a b", "'", "\\", "a\nb", "a\r\nb", ",", "-", "ä"])


def values_of(setting: Setting) -> st.SearchStrategy[Any]:
    """What a field can be by its description alone."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.kind is bool:
        return st.booleans()
    if setting.kind is int:
        return st.integers(int(setting.low), None if setting.high is None else int(setting.high))
    return st.floats(setting.low, setting.high, allow_nan=False) if setting.kind is float else NAMED


#: What each field of ``Settings`` can be; those that are not listed are described well enough.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{name: values_of(setting) for name, setting in describe().items()},
    "method": st.sampled_from(methods.names()),
    "budget": st.sampled_from(["auto", "7", "15%"]),
    "goal": st.sampled_from(["agreement=95%", "kl=0.05", "accuracy-loss=1", "time=-20%"]),
    "min_per_layer": st.integers(0, 4),
    "min_first_layers": st.integers(0, 4),
    **dict.fromkeys(("recover_time", "select_time"), st.sampled_from(["90", "30s", "2m", "1.5h"])),
    "mix": st.sampled_from(["0", "repeats=10%", "repeats=5%,notes.txt=2.5%"]),
    "latency_time": st.sampled_from(["5s", "90", "1m"]),
    "label_map": st.dictionaries(LABELS | AWKWARD, LABELS | AWKWARD, max_size=3),
    "splits": st.dictionaries(LABELS, LABELS, max_size=3),
    # Where there is a prompt there are answers, so both are drawn.
    "prompt": st.sampled_from(["{text} It was", "a \"{premise}\",\n'{hypothesis}'? {mask}."]),
    "answers": st.lists(LABELS, min_size=2, max_size=4, unique=True).map(tuple),
    "measure": st.sampled_from([(), ("neutral",), ("neutral", "roles")]),
}


def typed(name: str, line: list[str]) -> Settings:
    """The settings of a command line, as the command would be called with them."""
    context = PARSERS[name].make_context(name, list(line))
    return COMMANDS[name].settings(context.params)


def must_be_given(name: str) -> list[str]:
    """Values, for a parser, of what a command cannot do without and no setting says."""
    wanted = [option for option in COMMANDS[name].options if option.default is REQUIRED and not option.fills]
    return [word for option in wanted for word in ([] if option.argument else [f"--{option.name}"]) + ["somewhere"]]


@pytest.mark.parametrize("name", [name for name, options in FILLING.items() if options])
@settings(max_examples=30)
@given(drawn=st.data())
def test_settings_come_back_from_the_command_line_that_spells_them(name: str, drawn: st.DataObject) -> None:
    spelled = {option.name: option.flags[0].partition("/")[0] for option in FILLING[name]}
    asked = Settings(**{field: drawn.draw(VALUES[field], label=field) for field in spelled})
    line = to_arguments(asked, spelled)
    # What is not said is the command's own default, which is the usual one except where a command must differ.
    line += [word for field in own_defaults(name) for word in (spelled[field], str(getattr(asked, field)))]
    assert typed(name, [*must_be_given(name), *line]) == asked


def own_defaults(name: str) -> list[str]:
    """Fields for which a command has another default than ``Settings``."""
    return [option.name for option in FILLING[name] if option.default != OPTIONS[option.name].default]


def test_only_fit_differs_from_the_usual_settings() -> None:
    own = {name: own_defaults(name) for name in COMMANDS if own_defaults(name)}
    assert own == {"fit": ["data", "model"]}
    assert to_arguments(Settings(), flags("prune")) == []
    assert typed("prune", []) == typed("evaluate", []) == typed("export", must_be_given("export")) == Settings()
