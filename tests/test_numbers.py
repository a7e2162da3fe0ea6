"""How large the house is: numbers that only fall, each with the ceiling that it has reached.

A change that takes weight out lowers the ceiling; a change that adds some takes out as much elsewhere.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cahp"

#: Nodes of the syntax trees, without docstrings: neither packing nor unpacking lines changes them.
SYNTAX_NODES = 319_882
FILES = 232
#: Modules of the core (all but features and the front doors' own rooms) that features import.
IMPORTED_BY_FEATURES = 19
#: Files outside of tasks, models and features that ask what kind of model they have.
FORKS_BY_KIND_OF_MODEL = 14
#: Files whose functions ``cahp prune`` calls when nothing is stored.
ENTERED_BY_PRUNE = 55
LINES_OF_TESTS = 29_999
#: Of the explorer's style sheet, and mentions of Streamlit's internal ids in it.
LINES_OF_STYLE = 114
IDS_OF_STREAMLIT = 30

#: The ways to ask for the kind of model, by meaning.
FORK = re.compile(
    r"predicts_often|predicts_labels|items_are_texts|compares_while_reading|saves (==|!=) \"(cache|time)\""
    r"|isinstance\(.*TokenEvaluation|protocol is (not )?None|kv_cache|predicts_tokens|card\.cache\b|in_windows"
    r"|\.windows\b|card\.language|longest_context is (not )?None|\"perplexity\" in|\"bits_per_byte\" in"
)


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def count_nodes(module: ast.Module) -> int:
    """Nodes of a syntax tree without its docstrings."""
    docstrings = 0
    for node in ast.walk(module):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            # The expression and its constant.
            docstrings += 2
    return sum(1 for _ in ast.walk(module)) - docstrings


def test_syntax_nodes_only_become_fewer() -> None:
    assert sum(count_nodes(module) for _, module in modules()) <= SYNTAX_NODES


def test_files_only_become_fewer() -> None:
    assert len(list(modules())) <= FILES


def find_imports(module: ast.Module) -> set[str]:
    """Modules of the package that a module imports, wherever the imports stand."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("cahp"):
            names.add(node.module)
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                path = ROOT / inside.replace(".", "/")
                if path.with_suffix(".py").exists() or path.is_dir():
                    names.add(inside)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("cahp")}
    # A package is no module of its own where only its modules are imported.
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)}


def test_features_import_few_modules_of_the_core() -> None:
    imported: set[str] = set()
    for path, module in modules():
        if "features" in path.relative_to(PACKAGE).parts:
            imported |= {name for name in find_imports(module) if not name.startswith("cahp.features")}
    assert len(imported) <= IMPORTED_BY_FEATURES, sorted(imported)


def test_few_files_ask_for_the_kind_of_model() -> None:
    asking = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "import" not in line]
        if not name.startswith(("tasks/", "models/", "features/")) and FORK.search("\n".join(lines)):
            asking.append(name)
    assert len(asking) <= FORKS_BY_KIND_OF_MODEL, asking


_ENTERED = """
import json, sys
place = {package!r}
entered = set()
importing = 0
def leave(frame, event, argument):
    global importing
    importing -= event == "return"
    return leave
def enter(frame, event, argument):
    global importing
    if frame.f_code.co_name == "<module>":
        importing += 1
        return leave
    if not importing and frame.f_code.co_filename.startswith(place):
        entered.add(frame.f_code.co_filename)
from cahp.cli import run
sys.settrace(enter)
code = run({command!r})
sys.settrace(None)
print(json.dumps([code, sorted(entered)]), file=sys.stderr)
"""


@pytest.mark.slow
def test_prune_enters_few_files(tmp_path: Path) -> None:
    command = ["prune", "--model", "minilm-bbc", "--limit", "60", "--eval-limit", "40", "--recover", "refit", "--quiet"]
    script = _ENTERED.format(package=str(PACKAGE), command=command)
    environment = {**os.environ, "CAHP_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    code, entered = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr[-2000:]
    assert len(entered) <= ENTERED_BY_PRUNE, "\n".join(entered)


def test_lines_of_tests_only_become_fewer() -> None:
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py"))
    assert lines <= LINES_OF_TESTS


def test_the_style_sheet_stays_small() -> None:
    style = (ROOT / "assets" / "explorer.css").read_text(encoding="utf-8")
    assert len(style.splitlines()) <= LINES_OF_STYLE
    assert len(re.findall(r"data-testid", style)) <= IDS_OF_STREAMLIT
