"""What ``cahp prune`` leaves on disk, also when it is interrupted, and what it finds again."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from terminal import call

from cahp.terminal.progress import Reporter
from cahp.values import Cancelled

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("stage", "how"), [("signatures", Cancelled), ("refit", KeyboardInterrupt)])
def test_an_interrupted_run_says_so_and_leaves_nothing(
    words: list[object], stage: str, how: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting(Reporter):
        def __call__(self, name: str, done: int, total: int) -> None:
            if name == stage:
                raise how

    @contextlib.contextmanager
    def bars(*, quiet: bool, lines: bool) -> Iterator[Reporter]:
        yield Interrupting(say=print)

    monkeypatch.setattr("cahp.terminal.progress.bars", bars)
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    answer = call(*words, "--budget", 5, "--recover", "refit", "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (130, "")
    assert "interrupted" in answer.err
    assert not (tmp_path / "out").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith(".")] == []


#: Times of a busy machine would be taken again.
REPORT = (
    "import atexit, sys, time\n"
    "from cahp.models import cards\n"
    "cards.NOISY = float('inf')\n"
    "atexit.register(lambda: print(time.process_time(), 'torch' in sys.modules, file=sys.stderr))\n"
    "from cahp.cli import main; main()"
)


def test_the_same_run_again_needs_no_torch_no_time_and_no_unicode(words: list[object], run: dict[str, Any]) -> None:
    command = [sys.executable, "-c", REPORT, *map(str, words), "--budget", "5", "--recover", "refit"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, encoding="latin-1", check=False)
    assert done.returncode == 0, done.stderr
    seconds, torch = done.stderr.split()
    assert torch == "False"
    # Of the processor, not of the clock: what else the machine does must not matter.
    assert float(seconds) < 3
    assert "5 of 12 heads kept" in done.stdout
    assert r"\u25cf" in done.stdout
