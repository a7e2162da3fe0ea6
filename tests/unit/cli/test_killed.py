"""``kill -9`` at any moment: no file is torn, and the next run ends like one that nobody disturbed.

Each command is killed fifty times, with exports read back in processes of their own.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import killing
import numpy as np
import pytest
from safetensors.numpy import load_file

from cahp.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")

# What is the same whenever it is measured.


def pruned(out: Path) -> Any:
    run = json.loads((out / "run.json").read_text())
    arrays = dict(np.load(out / "arrays.npz"))
    same = {name: run[name] for name in ("model", "data", "settings", "knee", "kept", "metrics", "delta", "refit")}
    return same, {name: array.tolist() for name, array in arrays.items()}, (out / "head_mask.json").read_bytes()


def compared(out: Path) -> Any:
    said = json.loads((out / "compare.json").read_text())
    cells = [{name: one for name, one in cell.items() if name != "seconds"} for cell in said["cells"]]
    del said["summary"]["cost"]
    right = {split: rows.tolist() for split, rows in np.load(out / "compare.npz").items()}
    return said["summary"], cells, right, sorted(path.name for path in out.glob("[!.]*"))


def saved(out: Path) -> Any:
    return {
        path.name: path.read_bytes()
        for path in out.glob("[!.]*")
        # These tell the command, which names the folder, and times.
        if path.name not in ("metrics.json", "README.md")
    }


Case = tuple[list[object], Callable[[Path], Any]]


@pytest.fixture(scope="module")
def cases(model: Path, data: Path, folder: Path) -> dict[str, Case]:
    common: list[object] = ["--model", model, "--data", data, "--device", "cpu", "--quiet", "--limit", 40]
    mask = ["--mask", folder / "head_mask.json"]
    quick = ["--pool-size", 8, "--projection", "pca", "--latency-time", "0.05s"]
    few = ["--budgets", "4,6", "--seeds", 1, "--methods", "complementary,magnitude", "--recover", "refit"]
    return {
        "prune": ([*quick, "--budget", 5, "--recover", "refit", *common], pruned),
        "recover": ([*mask, "--recover", "finetune", "--epochs", 2, "--batch", 8, *common], saved),
        "compare": ([*few, *common], compared),
        "export": ([*mask, "--recover", "refit", "--format", "compact", *common], saved),
    }


class Place:
    """Where a command works: its results, its cache, and its temporary files."""

    def __init__(self, root: Path) -> None:
        self.root, self.out, self.cache, self.temporary = root, root / "out", root / "cache", root / "tmp"
        self.temporary.mkdir()

    def begin(self) -> None:
        """As on a new machine, but for what killed processes left under way."""
        for path in [*self.root.glob("out*"), *self.cache.glob("*.txt"), *self.cache.glob("results/[!.]*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remains(self) -> list[Path]:
        """What is under way."""
        return [
            *(path for path in self.root.rglob(".*") if not path.name.startswith(".pytest")),
            *self.temporary.glob("cahp-*"),
        ]

    def check_whole(self) -> None:
        """Check that whatever bears its own name is all there."""
        for path in self.root.rglob("*"):
            under_way = any(part.startswith(".") for part in path.relative_to(self.root).parts)
            if under_way or not path.is_file() or self.temporary in path.parents:
                continue
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".npz":
                dict(np.load(path))
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".entry":
                assert Store(self.cache).load(path.stem) is not None


def check(command: str, case: Case, root: Path, moments: Iterator[float]) -> None:
    place, (words, found) = Place(root), case
    asked = [command, *words, "--out", place.out]

    def run(kill_after: float | None = None) -> Any:
        ended = killing.run(asked, cache=place.cache, place=place.temporary, kill_after=kill_after)
        if kill_after is None:
            assert ended.code == 0, (place.temporary / "said.txt").read_text()
        return ended

    # The first process of all waits until everything is imported.
    killing.run(["--version"], cache=place.cache, place=place.temporary)
    undisturbed = run()
    expected, remains, killed = found(place.out), 0, 0
    for moment in moments:
        # The machine may be faster now than it was then: earlier, then.
        for sooner in range(6):
            place.begin()
            ended = run(kill_after=moment * undisturbed.seconds / 2**sooner)
            if ended.code == -signal.SIGKILL:
                killed += 1
                break
        place.check_whole()
        remains += len(place.remains())
        run()
        assert found(place.out) == expected, f"killed after {moment:.3f} of {undisturbed.seconds:.2f} s"
    assert killed
    long_ago = time.time() - 2 * 86_400
    for path in place.remains():
        os.utime(path, (long_ago, long_ago))
    place.begin()
    run()
    assert place.remains() == []
    print(f"{command}: {killed} killed of {undisturbed.seconds:.1f} s each, {remains} remains", file=sys.stderr)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("command", ["prune", "recover", "compare", "export"])
def test_a_command_killed_at_fifty_moments_is(cases: dict[str, Case], command: str, tmp_path: Path) -> None:
    moments = (random.SystemRandom().random() for _ in range(50))
    check(command, cases[command], tmp_path, moments)
