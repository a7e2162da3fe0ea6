"""``cahp prune`` as its users meet it: what is asked, refused and said, and what is left on disk and found again."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from terminal import call, refused

from cahp import methods
from cahp.exports.masks import read_mask_record
from cahp.exports.report import recipe
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.terminal.progress import Reporter
from cahp.values import Cancelled

LAYERS, HEADS, CLASSES, POOL = 3, 4, 2, 8


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        # Invalid by itself, for this model, and for these data; all options are tried on ``Settings`` and on ``prune``.
        ("--projection mds", "--projection"),
        ("--budget 13", "3 to 12"),
        ("--label-map worse=bad", "'worse'"),
        ("--data no-such-data", "no data named"),
        ("--method magnitude", "magnitude cannot suggest how many heads to keep; give --budget a number"),
        ("--method clairvoyant --data no-such-data", f"'clairvoyant'; choose one of {', '.join(methods.names())}"),
    ],
)
def test_what_cannot_be_pruned_leaves_no_folder(words: list[object], asked: str, named: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert named in refused(call(*words, *asked.split(), "--out", out))
    assert not out.exists()


@pytest.mark.parametrize("method", ["complementary", "magnitude"])
def test_the_method_is_named_by_all_that_is_written(words: list[object], method: str, tmp_path: Path) -> None:
    answer = call(*words, "--method", method, "--budget", 6, "--out", tmp_path)
    assert (answer.code, answer.err) == (0, "")
    run = json.loads((tmp_path / "run.json").read_text())
    assert RunDocument.from_json(run).to_json() == run
    assert run["settings"]["method"] == read_mask_record(tmp_path / "head_mask.json")["method"] == method
    assert (f"heads kept by {method} (" in answer.out) is (method != "complementary")
    # Shown by the explorer, the run is asked for by its method too.
    again = call(*shlex.split(recipe(Settings(**run["settings"])))[1:-2], "--json").document
    assert (again["kept"], again["settings"]) == (run["kept"], run["settings"])


def test_the_summary_is_one_screen_a_person_can_read(words: list[object], run: dict[str, Any]) -> None:
    answer = call(*words, "--budget", 5, "--recover", "refit")
    assert (answer.code, answer.err) == (0, "")
    said = answer.out.splitlines()
    assert len(said) < 40
    assert [line.split()[-2] for line in said[3 : 3 + LAYERS]] == [str(len(heads)) for heads in run["kept"].values()]
    assert [line.split()[1:] for line in said if line.startswith("  n ")] == [["40"] * 3]
    for name in ("full", "pruned", "recovered"):
        assert f"{run['metrics'][name]['accuracy'] * 100:.1f} %" in answer.out
    for row in ("5 of 12 heads kept", "95 % intervals", "Macro-F1", "Time per batch", "Weights", "refit"):
        assert row in answer.out


def test_json_prints_the_run_file_alone(words: list[object], run: dict[str, Any], folder: Path) -> None:
    answer = call(*words, "--budget", 5, "--recover", "refit", "--json")
    assert (answer.code, answer.err) == (0, "")
    # Another test may have timed the same mask since, on a machine that was busy or not.
    changing = {"timings", "cached", "command", "cost", "latency_ratio", "attention_share", "notices"}
    assert answer.document.keys() == run.keys()
    assert answer.document == {**run, **{name: answer.document[name] for name in changing}}
    # The command is kept as it was typed.
    assert run["command"].split()[:3] == ["cahp", "prune", "--model"]
    assert run["command"].endswith(f"--budget 5 --recover refit --out {folder}")


def test_the_arrays_have_the_shapes_of_the_contract(folder: Path, run: dict[str, Any]) -> None:
    arrays = np.load(folder / "arrays.npz", allow_pickle=False)
    heads, cells = LAYERS * HEADS, POOL * POOL
    shapes = {
        "class_counts": (CLASSES,),
        "mean": (heads, CLASSES, cells),
        "var": (heads, CLASSES, cells),
        "features": (heads, cells),
        "embedding": (heads, 2),
        **dict.fromkeys(("salience", "salience_batch", "salience_example"), (heads,)),
        "ks": (heads - 2,),
        "mss": (heads - 2,),
        "labels": (heads,),
        "medoids": (run["clusters"],),
        # What the board of a report needs beside them: all distances, and the clusters of every number.
        "distances": (heads, heads),
        "labels_of_k": (heads - 2, heads),
        "medoids_of_k": (sum(range(2, heads)),),
        # The curves of unstructured data, where the published rule chose the number.
        **({"mss_null": (run["knee_null"]["draws"], heads - 2)} if run["knee_null"] else {}),
    }
    assert {name: arrays[name].shape for name in arrays.files} == shapes
    assert arrays["class_counts"].tolist() == [60, 60]
    assert arrays["ks"].tolist() == list(range(2, heads))
    assert set(arrays["labels"]) <= set(range(run["clusters"]))
    assert (arrays["salience"].min(), arrays["salience"].max()) == (0, 1)


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


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """The options that name a language model with grouped queries, and its texts."""
    root = tmp_path_factory.mktemp("language")
    model = fakes.save_language_model(root / "lm", family="llama")
    (root / "texts.txt").write_text("\n\n".join(fakes.sentences(160).first))
    tokens = ["--window", 16, "--tokens", 320, "--eval-tokens", 128]
    return ["--model", model, "--data", root / "texts.txt", *tokens, "--device", "cpu"]


def test_a_run_prints_its_protocol_and_speaks_of_tokens(source: list[object], tmp_path: Path) -> None:
    quick = ["--pool-size", 8, "--projection", "pca", "--latency-time", "0.05s"]
    answer = call("prune", *source, *quick, "--budget", 6, "--recover", "refit", "--out", tmp_path / "out")
    assert (answer.code, answer.err) == (0, "")
    said = answer.out
    assert said.splitlines()[-1].startswith("  next      name this folder to cahp explore, ")
    documents = json.loads((tmp_path / "out" / "run.json").read_text())["protocol"]["documents"]
    assert f"Measured on 128 tokens of {documents} documents in windows of 16 tokens, without overlap " in said
    (counts,) = (line.split()[1:] for line in said.splitlines() if line.startswith("  n "))
    assert set(counts) == {str(documents)}
    for row in ("KL divergence", "Agreement with", "Perplexity", "Bits per byte  ", "Loss on repeated random tokens"):
        assert row in said
    for word in ("ccuracy", "F1", "classes", " texts,"):
        assert word not in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--label-map", "a=b"), "does not read"),
        (("--labels", "--recover", "distill"), "--labels needs labels, which"),
        (("--goal", "accuracy-loss=1"), "--goal accuracy-loss=1 needs labels, which"),
        (("--stride", 32), "--stride"),
        (("--tokens", 32, "--window", 64, "--budget", 6, "--recover", "refit"), "raise --tokens or lower --window"),
        (("--window", 81), "--window 81 is more than the 80 tokens that lm reads"),
        (("--prompt", "{text} it was", "--answers", 'bad,"good'), "--answers 'bad,\"good' cannot be read"),
    ],
)
def test_options_of_classifiers_are_refused(source: list[object], options: tuple[object, ...], reason: str) -> None:
    assert reason in refused(call("prune", *source, *options))
