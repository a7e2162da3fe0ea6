"""What holds for the house as a whole; the direction of imports is import-linter's (see pyproject.toml)."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ROOMS = {"pyproject.toml", "README.md", "app.py", "pages", "cahp", "assets", "tests"}
BESIDE_THEM = {"LICENSE", "CHANGELOG.md", "Makefile", "CITATION.cff", "Dockerfile", "llms.txt"}

#: What a command that only prints its help has no use for.
_HEAVY = "torch transformers peft accelerate datasets pyarrow pandas scipy sklearn umap numba kmedoids kneed networkx"
HEAVY = {*_HEAVY.split(), "streamlit", "plotly"}

LIGHT = {"cahp": "import cahp", "cahp --help": "from cahp.cli import main; sys.argv = ['cahp', '--help']; main()"}

REPORT = """
import json, sys, time
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([time.process_time(), sorted(sys.modules)]), file=sys.stderr)
"""


@pytest.mark.parametrize("statement", LIGHT.values(), ids=LIGHT)
def test_importing_is_cheap(statement: str) -> None:
    command, times = [sys.executable, "-c", REPORT.format(statement=statement)], []
    for _ in range(3):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        seconds, modules = json.loads(done.stderr)
        times.append(seconds)
        assert set(modules) & HEAVY == set()
    # Of the processor, and of the best run: what else the machine does only adds to it. PyTorch alone takes longer.
    assert min(times) < 0.8


def imported(source: str) -> set[str]:
    """Top-level names of all absolute imports of ``source``, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            names.add(node.module.split(".")[0])
    return names


def test_the_app_and_its_pages_import_streamlit_and_cahp_only() -> None:
    pages = sorted((ROOT / "pages").glob("*.py"))
    assert pages
    for script in [ROOT / "app.py", *pages]:
        extra = imported(script.read_text(encoding="utf-8")) - {"streamlit", "cahp", "__future__"}
        assert not extra, f"{script.name} imports {extra}"


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Files of the repository, also those that are new and not ignored."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = [git, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def test_the_top_level_holds_the_rooms_and_nothing_else(tracked: list[str]) -> None:
    top = {name.split("/")[0] for name in tracked}
    assert top >= ROOMS
    assert {name for name in top - ROOMS - BESIDE_THEM if not name.startswith(".")} == set()


def test_no_file_names_a_package_registry_so_that_a_mirror_serves_as_well(tracked: list[str]) -> None:
    # Put together here, so that this file does not name them either.
    hosts = [
        ".".join(parts).encode() for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))
    ]
    hosts += [".".join(parts).encode() for parts in (("npmjs", "org"), ("anaconda", "org"))]
    naming = [name for name in tracked if any(host in (ROOT / name).read_bytes() for host in hosts)]
    assert naming == []


def test_nothing_is_unpickled(tracked: list[str]) -> None:
    unpicklers = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
    sources = [name for name in tracked if name.endswith(".py") and not name.startswith("tests/")]
    assert sources
    guilty = [name for name in sources if imported((ROOT / name).read_text(encoding="utf-8")) & unpicklers]
    assert guilty == []


#: What the field calls otherwise, and what it says instead.
BANNED = {
    r"judg(e|es|ed|ing|ments?)": "evaluation texts, evaluate",
    r"select texts|texts to (select|choose) (by|with)": "calibration texts",
    r"another look(?! at)|(other|one|two|every|each|more|of|many|several|\d+) looks(?! (at|alike))": "resamples",
    r"mates?": "cluster members",
    r"repair(s|ed|ing)?|mend(s|ed|ing)?|ma(k|d)e(s|d)? good": "recover",
    r"fingers?": "the current budget",
    r"dear(er|est)?": "expensive, costliest",
    r"shel(f|ves|ved)": "checkpoint, bundled",
    r"la(y|ys|id|ying) down|t(ake|akes|aken|aking|ook) up": "state_dict, resumed",
    r"ask(s|ed|ing)? anew": "settings changed",
    r"steer(s|ed|ing)?": "tuning texts",
    r"the bend|bend of the curve": "the knee",
    r"(before|without|after no) recovery": "as pruned",
    r"no measurable (difference|price|change in)": "too close to call with n texts",
    r"refit state|pruned state": "after refit, as pruned",
}

#: Names in files that people have.
_FILES = ("cahp/comparison/document.py", "cahp/comparison/recording.py", "assets/docs/look-up/files.md")
KEPT = {("steer", name) for name in _FILES}


def banned(line: str) -> Iterator[tuple[str, str]]:
    """Banned words of a line, also as parts of names, and what to say instead."""
    for word, instead in BANNED.items():
        for found in re.finditer(rf"\b(?:{word})\b", line.replace("_", " "), re.IGNORECASE):
            yield found[0].lower(), instead


def test_one_thing_has_one_name(tracked: list[str]) -> None:
    ours = ("cahp/", "pages/", "app.py", "README.md", "assets/")
    texts = [
        name for name in tracked if name.startswith(ours) and name.endswith((".py", ".md", ".css", ".js", ".html"))
    ]
    assert len(texts) > 100
    found = [
        f"{name}:{number}: {word!r} is {instead}"
        for name in texts
        for number, line in enumerate((ROOT / name).read_text(encoding="utf-8").splitlines(), start=1)
        for word, instead in banned(line)
        if (word, name) not in KEPT
    ]
    assert not found, "\n".join(found)


@pytest.fixture(scope="module")
def parsed() -> list[tuple[str, ast.Module]]:
    """The modules of the package by their paths."""
    paths = sorted((ROOT / "cahp").rglob("*.py"))
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def test_two_classes_never_share_a_name(parsed: list[tuple[str, ast.Module]]) -> None:
    homes: dict[str, list[str]] = {}
    for path, module in parsed:
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(path)
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


#: Imports every module of the package; whoever makes a connection, or a socket to make one with, is named.
_IMPORTS = """
import importlib, pkgutil, sys, warnings
warnings.simplefilter("ignore")
def watch(event, given):
    if event.startswith("socket.") and event not in ("socket.gethostname",):
        raise RuntimeError(f"{event} {given}")
sys.addaudithook(watch)
import cahp
for module in pkgutil.walk_packages(cahp.__path__, "cahp."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(len([name for name in sys.modules if name.startswith("cahp.")]))
"""


@pytest.mark.nightly
def test_no_import_opens_a_socket() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-c", _IMPORTS]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 200
    # The watch sees one.
    command[-1] = _IMPORTS.replace("import cahp\n", "import socket, cahp\nsocket.create_server(('127.0.0.1', 0))\n")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "socket." in done.stderr) == (1, True)


#: Conditional expressions in the package. The number only falls: an ``if`` that is a statement is read once.
CONDITIONAL_EXPRESSIONS = 165
#: Functions with more than eight parameters: the public verbs, whose keywords are the options of commands; and the one
#: way into a network, through which every probe, gate and edit goes.
VERBS = {
    "cahp/api/compare.py:compare",
    "cahp/api/evaluate.py:latency",
    "cahp/comparison/running.py:compare",
    "cahp/api/export.py:export",
    "cahp/api/export.py:recover",
    "cahp/api/fit.py:fit",
    "cahp/models/head_model.py:logits",
    "cahp/run/bench.py:open_bench",
}


def test_few_expressions_are_conditional_and_few_functions_have_many_parameters(
    parsed: list[tuple[str, ast.Module]],
) -> None:
    count = sum(isinstance(node, ast.IfExp) for _, module in parsed for node in ast.walk(module))
    assert count <= CONDITIONAL_EXPRESSIONS
    crowded = set()
    for path, module in parsed:
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                own = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                if len([name for name in own if name not in ("self", "cls")]) > 8:
                    crowded.add(f"{path}:{node.name}")
    assert crowded <= VERBS


def test_the_ground_is_small() -> None:
    assert len(list((ROOT / "cahp").glob("*.py"))) <= 12
