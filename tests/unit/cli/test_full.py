"""Where nothing more can be written, the result is printed all the same, and one sentence says what was not kept."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminal import call

ROOT = Path(__file__).parents[3]
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform == "win32", reason="files have a largest size as on POSIX"),
]


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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_full_disk_costs_the_files_of_a_run_not_its_result(words: list[object], cache: Path, tmp_path: Path) -> None:
    asked = [*words, "--budget", 5, "--quiet"]
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
        done = subprocess.run(
            [sys.executable, "-m", "cahp", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("cahp: the output cannot be written (No space left on device)")
