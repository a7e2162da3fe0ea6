"""The wheel runs where nothing else is installed: its packages come from a folder, and nothing from the network."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[1]
WANTED = "cahp-explorer[ui,demo]"


def required(requirement: str) -> dict[str, Distribution]:
    """The installed packages that a requirement needs, itself included, by name."""
    found: dict[str, Distribution] = {}
    open_ones = [Requirement(requirement)]
    seen: set[str] = set()
    while open_ones:
        one = open_ones.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        name = canonicalize_name(one.name)
        found[name] = distribution(name)
        for text in found[name].requires or ():
            other = Requirement(text)
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in ("", *one.extras)):
                open_ones.append(other)
    return found


def pack(package: Distribution, folder: Path) -> None:
    """Write an installed package as the wheel that it came from, without what installers add."""
    files = {
        str(file): Path(str(package.locate_file(file)))
        for file in package.files or ()
        if not str(file).startswith("..") and "__pycache__" not in file.parts
    }
    # Some packages hold others, with facts of their own deeper down.
    (record,) = (name for name in files if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
    wheel = files[record.replace("RECORD", "WHEEL")]
    tags = [
        line.removeprefix("Tag: ").split("-") for line in wheel.read_text().splitlines() if line.startswith("Tag: ")
    ]
    tag = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    stem = record.removesuffix(".dist-info/RECORD")
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        for name, place in files.items():
            if name != record and place.is_file():
                archive.write(place, name)
        archive.writestr(record, "".join(f"{name},,\n" for name in files))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of this checkout, and those of the packages it needs, made from what is installed."""
    folder = tmp_path_factory.mktemp("index")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    for name, package in required(WANTED).items():
        if name != "cahp-explorer":
            pack(package, folder)
    return folder


@pytest.fixture(scope="module")
def words(index: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """How ``uvx`` starts ``cahp`` from the folder."""
    uv = shutil.which("uv")
    if uv is None:
        folder = tmp_path_factory.mktemp("uv")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "uv"]
        if subprocess.run(install, check=False).returncode != 0:
            pytest.skip("uv is not installed, and cannot be downloaded")
        uv = str(folder / "bin" / "uv")
    return [uv, "tool", "run", "--no-index", "--find-links", str(index), "--from", WANTED, "cahp"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment that knows no checkout, and neither a cache nor the network."""
    home = tmp_path_factory.mktemp("home")
    names = {"UV_PYTHON": sys.executable, "UV_PYTHON_DOWNLOADS": "never", "UV_OFFLINE": "1"}
    places = {name: str(home / name) for name in ("HOME", "UV_CACHE_DIR", "UV_TOOL_DIR", "CAHP_CACHE")}
    return {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **names, **places}


@contextmanager
def exploring(words: list[str], empty: dict[str, str], folder: Path) -> Iterator[str]:
    """The address of an explorer that is started and stopped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [*words, "explore", "--no-browser", "--no-token", "--port", str(port)]
    with subprocess.Popen(line, env=empty, cwd=folder) as server:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def read(address: str, seconds: float) -> str:
    """What an address answers, once it does."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address) as answer:
                return str(answer.read().decode())
        except urllib.error.URLError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def test_uvx_starts_the_explorer_from_the_wheel(words: list[str], empty: dict[str, str], tmp_path: Path) -> None:
    with exploring(words, empty, tmp_path) as address:
        assert "<title>" in read(address, 900)


def test_uvx_prunes_a_built_in_model(words: list[str], empty: dict[str, str], tmp_path: Path) -> None:
    line = [*words, "prune", "--limit", "64", "--eval-limit", "40", "--budget", "20", "--no-latency", "--quiet"]
    done = subprocess.run(line, env=empty, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "20 of 72 heads kept" in done.stdout
