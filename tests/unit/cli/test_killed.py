"""``kill -9`` at any moment: no file is torn, and the next run ends like one that nobody disturbed.

Each command is killed fifty times, with exports read back in processes of their own.
"""

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killing
import numpy as np
import pytest
from safetensors.numpy import load_file

from cahp.store import Store

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are forked")


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


def check_whole(root: Path) -> None:
    """Check that whatever bears its own name is all there."""
    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".npz": lambda path: dict(np.load(path)),
        ".safetensors": load_file,
    }
    for path in root.rglob("*.*"):
        under_way = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix in readers and not under_way and "tmp" not in path.relative_to(root).parts:
            readers[path.suffix](path)
    for path in root.glob("cache/results/[!.]*.entry"):
        assert Store(root / "cache").load(path.stem) is not None


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("command", ["prune", "recover", "compare", "export"])
def test_a_command_killed_anywhere_is_done_by_the_next(cases: dict[str, Case], command: str, tmp_path: Path) -> None:
    words, found = cases[command]
    out, cache, temporary = tmp_path / "out", tmp_path / "cache", tmp_path / "tmp"
    temporary.mkdir()

    def begin() -> None:
        """As on a new machine, but for what killed processes left under way."""
        for path in [*tmp_path.glob("out*"), *cache.glob("*.txt"), *cache.glob("results/[!.]*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remains() -> list[Path]:
        hidden = [path for path in tmp_path.rglob(".*") if not path.name.startswith(".pytest")]
        return [*hidden, *temporary.glob("cahp-*")]

    def run(kill_after: float | None = None) -> killing.Ended:
        ended = killing.run([command, *words, "--out", out], cache=cache, place=temporary, kill_after=kill_after)
        assert kill_after is not None or ended.code == 0, (temporary / "said.txt").read_text()
        return ended

    # The first process of all waits until everything is imported.
    killing.run(["--version"], cache=cache, place=temporary)
    undisturbed = run()
    expected, killed = found(out), 0
    for _ in range(50):
        moment = random.SystemRandom().random()
        # The machine may be faster now than it was then: earlier, then.
        for sooner in range(6):
            begin()
            if run(kill_after=moment * undisturbed.seconds / 2**sooner).code == -signal.SIGKILL:
                killed += 1
                break
        check_whole(tmp_path)
        run()
        assert found(out) == expected, f"killed after {moment:.3f} of {undisturbed.seconds:.2f} s"
    assert killed
    long_ago = time.time() - 2 * 86_400
    for path in remains():
        os.utime(path, (long_ago, long_ago))
    begin()
    run()
    assert remains() == []
