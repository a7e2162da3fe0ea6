"""Several processes: what they share out comes back whole, and one command of several is one command of one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import prune

from cahp import cli, methods, models
from cahp import processes as parallel
from cahp.files import plain_json
from cahp.models import head_model
from cahp.outcomes import measure, to_metrics
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.stages.evaluation import evaluate
from cahp.store import Store
from cahp.values import OptionError

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[2]


def test_one_process_does_all_of_it_and_loads_nothing() -> None:
    code = (
        "import sys\nfrom cahp import processes as p\n"
        "assert (p.rank(), p.world(), p.first()) == (0, 1, True)\n"
        "assert p.share([1, 2, 3]) == [1, 2, 3]\nassert p.gather('a') == ['a']\nassert p.from_first(lambda: 7) == 7\n"
        "assert not {'torch', 'accelerate'} & set(sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


def test_shares_are_a_partition_in_which_neighbours_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(parallel.share(list(range(8))))
    assert parts == [[0, 3, 6], [1, 4, 7], [2, 5]]


@pytest.mark.parametrize(("world", "rank"), [("2", None), ("2", "two"), ("two", "0"), ("2", "2"), ("0", "0"), ("", "")])
def test_a_launcher_s_variables_that_do_not_fit_together_are_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: str, rank: str | None
) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with pytest.raises(OptionError, match="WORLD_SIZE"):
        parallel.rank()
    assert cli.run(["prune", "--help"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cahp: WORLD_SIZE")
    assert said.count("\n") == 1


# --- two processes

#: What each of two processes does. Reading the libraries takes seconds, so they are started once for all tests.
PROGRAM = """
import atexit, contextlib, io, json, sys
from pathlib import Path
from cahp.cli import run
from cahp import processes as parallel

here = Path(sys.argv[1])

@atexit.register
def still_run():
    # Registered first, this comes last, after the processes have parted.
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").glob("*")]
    (here / f"threads-{parallel.rank()}.json").write_text(json.dumps(threads))

found = {"gathered": parallel.gather(parallel.rank()), "first": parallel.from_first(parallel.rank)}

def fail():
    raise ValueError("only the first fails")

try:
    parallel.from_first(fail)
except ValueError as error:
    found["error"] = str(error)
from cahp import methods
from cahp.models import head_model
from cahp.outcomes import measure, to_metrics
from cahp.run.bench import open_bench
from cahp.run.settings import Settings
from cahp.store import Store

asked = json.loads((here / "scores.json").read_text())
evidence = open_bench(Settings(**asked["settings"]), store=Store(here / "scores")).evidence
original = head_model.batch_size
head_model.batch_size = lambda device: (2048, 5)  # several batches, of which each process takes some
found["scores"] = {name: methods.get(name).score(evidence).tolist() for name in asked["methods"]}
head_model.batch_size = original
for words in json.loads((here / "asked.json").read_text()):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(words)
    found["distill" if "auto" in words else words[0]] = [code, out.getvalue(), err.getvalue()]
(here / f"found-{parallel.rank()}.json").write_text(json.dumps(found))
"""


#: Methods that read attention maps of all texts, one that goes through their layers, and those that read moments.
SCORED = ["confidence", "hies", "attattr", "fisher-output", "obs-fisher"]


@dataclass(frozen=True)
class Two:
    """What two processes found, each, and where they wrote."""

    found: tuple[dict[str, Any], dict[str, Any]]
    folder: Path
    settings: Settings


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("two")
    model, data = fakes.save_model(folder / "model"), fakes.write_data(folder / "data")
    words = ["--model", str(model), "--data", str(data), "--device", "cpu"]
    mask = str(folder / "run" / "head_mask.json")
    asked = [
        [*("prune", *words, "--pool-size", "8", "--projection", "pca", "--budget", "5", "--recover", "finetune")],
        ["recover", *words, "--recover", "finetune", "--mask", mask, "--json"],
        ["evaluate", *words, "--mask", str(folder / "nowhere.json")],
        ["doctor"],
        ["recover", *words, "--recover", "auto", "--recover-time", "10m", "--mask", mask, "--json"],
    ]
    asked[0] += ["--out", str(folder / "run")]
    asked[1] += ["--out", str(folder / "checkpoint")]
    asked[4] += ["--out", str(folder / "distilled")]
    (folder / "asked.json").write_text(json.dumps(asked))
    scored = {"model": str(model), "data": str(data), "device": "cpu", "limit": 24}
    (folder / "scores.json").write_text(json.dumps({"methods": SCORED, "settings": scored}))
    (folder / "program.py").write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    start += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port]
    cache = {"CAHP_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*start, str(folder / "program.py"), str(folder)],
        env={**os.environ, **cache},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2))
    return Two((first, second), folder, fakes.quick(model, data, latency=True, budget="5"))


@pytest.mark.nightly
def test_everyone_gets_what_the_others_found_and_the_first_one_s_errors(two: Two) -> None:
    for found in two.found:
        assert (found["gathered"], found["first"], found["error"]) == ([0, 1], 0, "only the first fails")


@pytest.mark.nightly
def test_two_processes_find_what_one_finds(two: Two, tmp_path: Path) -> None:
    one = prune(two.settings, store=Store(tmp_path))
    document = json.loads((two.folder / "run" / "run.json").read_text())
    assert document["kept"] == one.mask.kept
    for name in ("full", "pruned"):
        other, said = document["metrics"][name], plain_json(to_metrics(one.document.outcomes[name]))
        assert other.pop("ci95") == said.pop("ci95")
        assert other.pop("n") == said.pop("n") == 40
        assert other == pytest.approx(said, abs=1e-6)
    assert document["latency_ratio"] is not None
    with np.load(two.folder / "run" / "arrays.npz") as arrays:
        assert set(arrays) == set(one.arrays)
        for name, array in one.arrays.items():
            assert np.allclose(arrays[name], array, rtol=0, atol=1e-6), name


@pytest.mark.nightly
def test_two_processes_score_heads_as_one_does(two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_model, "batch_size", lambda _: (2048, 5))
    asked = json.loads((two.folder / "scores.json").read_text())["settings"]
    evidence = open_bench(Settings(**asked), store=Store(tmp_path)).evidence
    for name in SCORED:
        alone = methods.get(name).score(evidence)
        for found in two.found:
            np.testing.assert_allclose(found["scores"][name], alone, rtol=1e-9, err_msg=name)


@pytest.mark.nightly
def test_two_processes_fine_tune_and_write_one_checkpoint(two: Two) -> None:
    code, out, _ = two.found[0]["recover"]
    assert code == 0
    found = json.loads(out)
    # 96 texts to learn from in batches of 32, for each of two: two steps an epoch.
    assert all(np.isfinite(epoch["loss"]) for epoch in found["epochs"])
    assert len(found["epochs"]) == 3
    # The run trained it; this has found it again.
    run = json.loads((two.folder / "run" / "run.json").read_text())
    assert found["metrics"]["recovered"] == run["metrics"]["recovered"]
    assert (two.folder / "checkpoint" / "model.safetensors").is_file()
    assert [path.name for path in two.folder.glob(".*")] == []
    written = models.load(str(two.folder / "checkpoint"), device="cpu")
    bench = open_bench(two.settings, store=Store(two.folder / "cache"))
    answered = measure(evaluate(written, bench.evaluation))
    assert answered["accuracy"].value == found["metrics"]["recovered"]["accuracy"]
    assert answered["nll"].value == pytest.approx(found["metrics"]["recovered"]["loss"], abs=1e-5)


@pytest.mark.nightly
def test_two_processes_distil_one_model_in_the_time_that_they_have(two: Two) -> None:
    found = json.loads(two.found[0]["distill"][1])
    assert found["distill"]["examples"] == 96
    assert len(found["distill"]["epochs"]) == 3
    written = models.load(str(two.folder / "distilled"), device="cpu")
    answered = measure(evaluate(written, open_bench(two.settings, store=Store(two.folder / "cache")).evaluation))
    assert answered["accuracy"].value == found["metrics"]["recovered"]["accuracy"]


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux names a process's threads there")
def test_nothing_of_the_group_still_runs_when_a_process_ends(two: Two) -> None:
    # Such a thread that is to wait for the interpreter once that has gone aborts the process.
    for rank in range(2):
        threads = json.loads((two.folder / f"threads-{rank}.json").read_text())
        assert threads
        assert [name for name in threads if "gloo" in name] == []


@pytest.mark.nightly
def test_only_the_first_of_two_processes_speaks(two: Two) -> None:
    first, second = two.found
    assert first["prune"][1].count("5 of 12 heads kept") == 1
    assert "nowhere.json" in first["evaluate"][2]
    assert "works in one process" in first["doctor"][2]
    codes = {"prune": 0, "recover": 0, "evaluate": 2, "doctor": 2, "distill": 0}
    for name, code in codes.items():
        assert (first[name][0], second[name][0]) == (code, code)
        assert second[name][1:] == ["", ""]
