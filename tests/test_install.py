"""The wheel runs where nothing is installed but what it asks for."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from serving import free_port

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[1]
OURS = "cahp-explorer"


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


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """``cahp`` from the wheel of this checkout, in a Python that has the packages that it needs, and no others."""
    place = tmp_path_factory.mktemp("alone")
    venv.create(place, with_pip=False)
    (packages,) = place.glob("lib/python*/site-packages")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place], cwd=ROOT, check=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name, package in required(f"{OURS}[ui,demo]").items():
        parts = {file.parts[0] for file in package.files or () if name != OURS}
        # Several packages may share a folder, and scripts lie elsewhere.
        for part in parts - {"..", "__pycache__", *(path.name for path in packages.iterdir())}:
            (packages / part).symlink_to(str(package.locate_file(part)))
    return [str(place / "bin" / "python"), "-m", "cahp"]


@pytest.fixture
def empty(tmp_path: Path) -> dict[str, str]:
    """An environment that knows no checkout, and neither a cache nor the network."""
    places = {name: str(tmp_path / name) for name in ("HOME", "CAHP_CACHE")}
    return {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **places}


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


def test_the_explorer_starts_from_the_wheel(alone: list[str], empty: dict[str, str], tmp_path: Path) -> None:
    port = free_port()
    line = [*alone, "explore", "--no-browser", "--no-token", "--port", str(port)]
    with subprocess.Popen(line, env=empty, cwd=tmp_path) as server:
        try:
            assert "<title>" in read(f"http://127.0.0.1:{port}/", 900)
        finally:
            server.terminate()


def test_the_wheel_prunes_a_built_in_model(alone: list[str], empty: dict[str, str], tmp_path: Path) -> None:
    line = [*alone, "prune", "--limit", "64", "--eval-limit", "40", "--budget", "20", "--no-latency", "--quiet"]
    done = subprocess.run(line, env=empty, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "20 of 72 heads kept" in done.stdout
