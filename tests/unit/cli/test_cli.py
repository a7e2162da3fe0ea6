"""The command line as its users meet it: what it prints, where, with which exit code, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cahp import cli
from cahp.cli.progress import Reporter
from cahp.data import parse_label_map
from cahp.export.masks import check_fits, read_mask, validate_run
from cahp.run.prune import prune
from cahp.run.settings import Settings
from cahp.stages.selection import parse_budget
from cahp.store import Store
from cahp.values import CahpError, Cancelled

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEADS, CLASSES, POOL = 3, 4, 2, 8


@dataclass(frozen=True)
class Answer:
    """What one command left behind: its exit code, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


def call(*words: object) -> Answer:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([str(word) for word in words])
    return Answer(code, out.getvalue(), err.getvalue())


def refused(answer: Answer) -> str:
    """The one sentence of a command that could not be done."""
    assert answer.code == 2
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("cahp: ")
    return line.removeprefix("cahp: ")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_data(tmp_path_factory.mktemp("data") / "reviews")


@pytest.fixture(scope="module")
def words(model: Path, data: Path) -> list[object]:
    """A run that takes a second, and, found again, a tenth of one."""
    return ["prune", "--model", model, "--data", data, "--pool-size", POOL, "--projection", "pca", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(words: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``--out`` of a run with a budget and a refit holds."""
    out = tmp_path_factory.mktemp("runs") / "out"
    answer = call(*words, "--budget", 5, "--recover", "refit", "--out", out)
    assert (answer.code, answer.err) == (0, "")
    return out


@pytest.fixture(scope="module")
def run(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


# --- what is asked


def test_without_words_the_help_is_printed() -> None:
    answer = call()
    assert (answer.code, answer.err) == (0, "")
    assert "Usage: cahp" in answer.out


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("nonsense", "'nonsense'"),
        ("prune --nonsense", "--nonsense"),
        ("prune --limit many", "--limit"),
        ("prune --limit 1", "--limit"),
        ("prune --eval-limit 0", "--eval-limit"),
        ("prune extra", "extra"),
        ("latency", "--mask"),
        ("fit --data reviews", "--out"),
        ("latency --mask m --length 1", "--length"),
        ("bench --rounds 0", "--rounds"),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence_that_points_to_the_help(asked: str, named: str) -> None:
    said = refused(call(*asked.split()))
    assert named in said
    assert "see `cahp" in said
    assert said.endswith(" --help`")


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("--budget 2", "3 to 12"),
        ("--budget 13", "3 to 12"),
        ("--budget 15%", "15% (2 heads)"),
        ("--budget 5.5", "'5.5'"),
        ("--budget -1", "'-1'"),
        ("--budget few", "'few'"),
        ("--min-per-layer 5", "0 to 4"),
        ("--min-per-layer -1", "0 to 4"),
        ("--min-per-layer 2 --budget 5", "6 to 12"),
        ("--min-per-layer 0 --budget 1 --recover refit", "--recover none"),
        ("--select-split validation", "same split"),
        ("--eval-split train", "same split"),
        ("--select-split test", "--report test"),
        ("--eval-split test", "--report test"),
        ("--select-split tail", "'tail'"),
        ("--eval-split dev", "--eval-split"),
        ("--report validation", "--report"),
        ("--pool-size 1", "--pool-size"),
        ("--pool-size 129", "--pool-size"),
        ("--poly-degree 1", "--poly-degree"),
        ("--poly-degree 11", "--poly-degree"),
        ("--seed -1", "--seed"),
        ("--seed 4294967296", "--seed"),
        ("--sample all", "--sample"),
        ("--projection mds", "--projection"),
        ("--salience sum", "--salience"),
        ("--representative first", "--representative"),
        ("--recover all", "--recover"),
        ("--device tpu", "--device"),
        ("--device mps", "--device auto"),
        ("--text-column body", "--text-column"),
        ("--pair-column body", "--pair-column"),
        ("--label-column body", "--label-column"),
        ("--label-map bad", "--label-map"),
        ("--label-map worse=bad", "'worse'"),
        ("--limit 4 --recover refit --budget 5", "--limit"),
    ],
)
def test_an_impossible_option_is_one_sentence_and_leaves_no_folder(
    words: list[object], asked: str, named: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert named in refused(call(*words, *asked.split(), "--out", out))
    assert not out.exists()


@given(st.text(max_size=12) | st.from_regex(r"-?[0-9]{0,5}\.?[0-9]{0,3} ?%?", fullmatch=True))
def test_any_budget_is_a_number_of_heads_within_bounds_or_one_sentence(text: str) -> None:
    # Whatever else it raised would end the test.
    with contextlib.suppress(CahpError):
        budget = parse_budget(text, total=12, layers=3)
        assert budget is None or 3 <= budget <= 12


@given(st.text(max_size=20) | st.text(alphabet='ab=," \n\t\\', max_size=20))
def test_any_label_map_is_a_map_of_names_or_one_sentence(text: str) -> None:
    with contextlib.suppress(CahpError):
        found = parse_label_map(text)
        assert found
        assert all(ours.strip() and theirs.strip() for ours, theirs in found.items())


@given(st.text(max_size=12))
def test_any_budget_typed_ends_in_an_answer_or_a_refusal(text: str) -> None:
    # No such model: what is tried is the way from the shell to the parsers, not a run.
    answer = call("prune", "--model", "no-such-model", f"--budget={text}", f"--label-map={text}")
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("cahp: ")


# --- what data and models are refused


def rows(labels: str) -> str:
    return "".join(
        f"{word} film {index},{label}\n" for index, word in enumerate(fakes.WORDS) for label in labels.split()
    )


BROKEN = {
    "empty.csv": (b"", "is empty"),
    "header.csv": (b"text,label\n", "no lines of data"),
    "binary.csv": (bytes(range(256)), "not UTF-8"),
    "one-class.csv": (b"text,label\n" + b"good film,good\n" * 30, "at least two classes"),
    "other-labels.csv": (b"text,label\n" + rows("pos neg").encode(), "--label-map"),
    "truncated.parquet": (b"PAR1\x15\x04", "not a whole Parquet file"),
    "ragged.csv": (b"text,label\ngood film,good\nbad\n", "line 3"),
    "unlabelled.csv": (b"text\ngood film\n", "--label-column"),
    "two-texts.csv": (b"text,label\ngood film,good\nbad film,bad\n", "no split 'validation'"),
    "pickled.pkl": (b"\x80\x04N.", "refused"),
}


@pytest.mark.parametrize(("content", "named"), BROKEN.values(), ids=BROKEN)
def test_data_that_cannot_be_used_is_refused_before_the_model_is_read(
    words: list[object], content: bytes, named: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = tmp_path / request.node.callspec.id
    path.write_bytes(content)
    out = tmp_path / "out"
    assert named in refused(call(*words, "--data", path, "--out", out))
    assert not out.exists()


def test_a_model_that_cannot_be_used_is_refused(words: list[object], tmp_path: Path) -> None:
    assert "config.json" in refused(call(*words, "--model", tmp_path))
    assert "built-in" in refused(call(*words, "--model", "no-such-model"))
    assert "cahp fit --model minilm" in refused(call("prune", "--model", "minilm"))
    assert "cahp fit --model minilm" in refused(call("evaluate", "--model", "minilm"))


def test_a_report_on_a_test_split_that_is_not_there_is_refused(words: list[object], tmp_path: Path) -> None:
    data = fakes.write_data(tmp_path / "data", train=20, validation=10, test=1)
    (data / "test.jsonl").unlink()
    assert "'test'" in refused(call(*words, "--data", data, "--report", "test"))


# --- what a run says


def test_the_summary_is_one_screen_a_person_can_read(words: list[object], run: dict[str, Any]) -> None:
    answer = call(*words, "--budget", 5, "--recover", "refit")
    assert (answer.code, answer.err) == (0, "")
    assert "tiny on " in answer.out
    assert "5 of 12 heads kept" in answer.out
    assert [line.split()[-2] for line in answer.out.splitlines()[3 : 3 + LAYERS]] == [
        str(len(run["kept"][str(layer)])) for layer in range(LAYERS)
    ]
    assert "n = 40" in answer.out
    for name in ("full", "pruned", "recovered"):
        assert f"{run['metrics'][name]['accuracy'] * 100:.1f} %" in answer.out
    for row in ("accuracy", "95 % interval", "macro-F1", "latency", "size", "refit", "verified"):
        assert row in answer.out
    assert len(answer.out.splitlines()) < 40


def test_json_prints_the_run_file_and_nothing_else(words: list[object], run: dict[str, Any]) -> None:
    answer = call(*words, "--budget", 5, "--recover", "refit", "--json")
    assert (answer.code, answer.err) == (0, "")
    changing = {"timings", "cached", "command"}
    assert {name: value for name, value in answer.document.items() if name not in changing} == {
        name: value for name, value in run.items() if name not in changing
    }


def test_the_command_is_kept_as_it_was_typed(words: list[object], run: dict[str, Any], folder: Path) -> None:
    assert run["command"].split()[:3] == ["cahp", "prune", "--model"]
    assert run["command"].endswith(f"--budget 5 --recover refit --out {folder}")


def test_the_run_file_follows_the_contract(run: dict[str, Any], model: Path) -> None:
    validate_run(run)
    assert run["schema"] == "cahp.run/1"
    assert (run["model"]["id"], run["model"]["layers"], run["model"]["heads"]) == (model.name, LAYERS, HEADS)
    assert run["data"]["select"]["class_counts"] == {"bad": 60, "good": 60}
    assert (run["data"]["select"]["split"], run["data"]["select"]["examples"]) == ("train", 120)
    assert (run["data"]["eval"]["split"], run["data"]["eval"]["examples"]) == ("validation", 40)
    assert run["data"]["select"]["sha256"] != run["data"]["eval"]["sha256"]
    assert run["budget"] == {"requested": 5, "attained": 5}
    assert sum(map(len, run["kept"].values())) == 5
    assert all(head in run["kept"][str(layer)] for layer, head in run["rescued"])
    for metrics in run["metrics"].values():
        low, high = metrics["ci95"]
        assert low <= metrics["accuracy"] <= high
        assert metrics["n"] == 40
    assert run["metrics"]["full"]["agreement"] is None
    for name in ("pruned", "recovered"):
        gained = run["metrics"][name]["accuracy"] - run["metrics"]["full"]["accuracy"]
        assert run["delta"][name]["pp"] == pytest.approx(100 * gained)
    for part in run["cost"].values():
        assert set(part["latency_ms"]) == {"median", "p95", "batch", "length", "repeats"}
    assert run["cost"]["pruned"]["parameters"] < run["cost"]["full"]["parameters"]
    assert run["cost"]["pruned"]["flops"] < run["cost"]["full"]["flops"]
    assert run["latency_ratio"]["ci95"][0] <= run["latency_ratio"]["median"] <= run["latency_ratio"]["ci95"][1]
    assert 0 < run["attention_share"] < 1
    assert run["verified"]["mask_bites"] is run["verified"]["mask_equals_surgery"] is True
    assert run["test_opened"] == 0


def test_what_was_not_measured_is_null(words: list[object]) -> None:
    run = call(*words, "--budget", 2, "--min-per-layer", 0, "--json").document
    assert run["metrics"]["recovered"] is run["delta"]["recovered"] is run["refit"] is run["report"] is None
    # A layer without heads cannot be cut out, so there is nothing to time.
    assert run["cost"]["pruned"] == {"parameters": None, "flops": None, "latency_ms": None}
    assert run["latency_ratio"] is run["attention_share"] is run["verified"]["mask_equals_surgery"] is None
    assert run["timings"]["recovery_s"] is None


def test_the_mask_file_holds_the_heads_of_the_run(folder: Path, run: dict[str, Any]) -> None:
    mask, said = read_mask(folder / "head_mask.json")
    check_fits(mask, LAYERS, HEADS, "tiny")
    assert {str(layer): heads for layer, heads in enumerate(mask.by_layer)} == run["kept"]
    assert (said["schema"], said["sha256"]) == ("cahp.mask/1", mask.sha256)
    assert said["metrics"] == run["metrics"]


def test_the_arrays_have_the_shapes_of_the_contract(folder: Path, run: dict[str, Any]) -> None:
    arrays = np.load(folder / "arrays.npz", allow_pickle=False)
    heads, cells = LAYERS * HEADS, POOL * POOL
    shapes = {
        "class_counts": (CLASSES,),
        "mean": (heads, CLASSES, cells),
        "var": (heads, CLASSES, cells),
        "features": (heads, cells),
        "embedding": (heads, 2),
        "salience": (heads,),
        "ks": (heads - 2,),
        "mss": (heads - 2,),
        "labels": (heads,),
        "medoids": (run["clusters"],),
    }
    assert {name: arrays[name].shape for name in arrays.files} == shapes
    assert arrays["class_counts"].tolist() == [60, 60]
    assert arrays["ks"].tolist() == list(range(2, heads))
    assert set(arrays["labels"]) <= set(range(run["clusters"]))
    assert (arrays["salience"].min(), arrays["salience"].max()) == (0, 1)


def test_fine_tuning_tells_each_epoch_on_stderr_and_its_figures_beside_the_refit_s(
    model: Path, data: Path, folder: Path, tmp_path: Path
) -> None:
    words = ["recover", "--model", model, "--data", data, "--mask", folder / "head_mask.json", "--device", "cpu"]
    words += ["--recover", "finetune", "--epochs", 2, "--batch", 16, "--learning-rate", 0.001]
    answer = call(*words, "--out", tmp_path / "a")
    assert answer.code == 0
    assert [line.split()[:3:2] for line in answer.err.splitlines()] == [["epoch", "loss"], ["epoch", "loss"]]
    # The same lines stand below the table.
    assert answer.err in answer.out
    title = next(line for line in answer.out.splitlines() if "n = 40" in line)
    assert title.split()[-4:] == ["full", "pruned", "recovered", "refitted"]
    again = call(*words, "--out", tmp_path / "b")
    assert (again.code, again.err) == (0, "")
    assert again.out.replace("/b", "/a") == answer.out


# --- what is left on disk


def test_files_of_an_earlier_run_are_replaced_and_others_stay(words: list[object], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("of an earlier run")
    (tmp_path / "notes.txt").write_text("mine")
    assert call(*words, "--budget", 4, "--out", tmp_path).code == 0
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "arrays.npz",
        "head_mask.json",
        "notes.txt",
        "run.json",
    ]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "run.json").read_text())["budget"]["attained"] == 4


def test_a_failing_run_leaves_an_earlier_one_as_it_was(words: list[object], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("of an earlier run")
    refused(call(*words, "--budget", 99, "--out", tmp_path))
    assert [item.name for item in tmp_path.iterdir()] == ["run.json"]
    assert (tmp_path / "run.json").read_text() == "of an earlier run"


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(words: list[object], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    for out in (taken, taken / "below", tmp_path / ("x" * 300)):
        # The model does not exist: that it is not what is complained about shows what came first.
        assert "--out" in refused(call(*words, "--model", "no-such-model", "--out", out))
    assert taken.read_text() == "a file"


@pytest.mark.parametrize("stage", ["load", "signatures", "projection", "clustering", "evaluation", "refit"])
@pytest.mark.parametrize("how", [KeyboardInterrupt, Cancelled])
def test_an_interrupted_run_says_so_and_leaves_nothing(
    words: list[object], stage: str, how: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting(Reporter):
        def __call__(self, name: str, done: int, total: int) -> None:
            if name == stage:
                raise how

    @contextlib.contextmanager
    def bars(*, quiet: bool) -> Iterator[Reporter]:
        yield Interrupting(None, print)

    monkeypatch.setattr("cahp.cli.progress.bars", bars)
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "cache"))
    answer = call(*words, "--budget", 5, "--recover", "refit", "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (130, "")
    assert "interrupted" in answer.err
    assert not (tmp_path / "out").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith(".")] == []


def test_control_c_while_the_heads_are_watched_ends_with_130_and_no_file(words: list[object], tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from cahp.stages.signatures import Collector\n"
        "Collector.watch = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        "from cahp.cli import main; main()"
    )
    environment = {**os.environ, "CAHP_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", program, *map(str, words), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("cahp: interrupted")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.rglob(".*")) == []


# --- what is found again


REPORT = (
    "import atexit, sys, time\n"
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


def test_what_comes_from_the_store_is_said(words: list[object], run: dict[str, Any]) -> None:
    again = call(*words, "--budget", 5, "--recover", "refit", "--json").document
    assert set(again["cached"]) == {
        "signatures",
        "space",
        "clustering",
        "salience",
        "evaluation",
        "recovery",
        "latency",
    }
    assert again["metrics"] == run["metrics"]
    assert again["timings"]["total_s"] < run["timings"]["total_s"]
    assert "--no-cache" in call(*words, "--budget", 5, "--recover", "refit").out


def test_no_cache_measures_anew_and_finds_the_same(words: list[object], run: dict[str, Any]) -> None:
    again = call(*words, "--budget", 5, "--recover", "refit", "--no-cache", "--json").document
    assert again["cached"] == []
    assert again["timings"]["signatures_s"] > 0
    assert again["kept"] == run["kept"]
    assert again["metrics"] == run["metrics"]


def test_results_are_kept_where_the_environment_says(
    words: list[object], run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "here"))
    again = call(*words, "--budget", 5, "--recover", "refit", "--json").document
    assert again["cached"] == []
    assert list((tmp_path / "here").rglob("*.entry"))


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_store_costs_time_and_nothing_else(
    words: list[object], run: dict[str, Any], damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path))
    asked = [*words, "--budget", 5, "--json"]
    first = call(*asked).document
    entries = list(tmp_path.rglob("*.entry"))
    assert entries
    for entry in entries:
        content = entry.read_bytes()
        broken = {
            "cut": content[: len(content) // 2],
            "flipped": content[:-1] + bytes([content[-1] ^ 1]),
            "emptied": b"",
        }
        entry.write_bytes(broken[damage])
    again = call(*asked)
    assert (again.code, again.err) == (0, "")
    assert again.document["cached"] == []
    assert again.document["metrics"] == first["metrics"]


def test_a_store_that_cannot_be_used_costs_a_warning(
    words: list[object], run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path / "taken"))
    answer = call(*words, "--budget", 5, "--json")
    assert answer.code == 0
    assert answer.document["kept"] == run["kept"]


def test_two_processes_at_once_do_not_meet_half_a_file(words: list[object], tmp_path: Path) -> None:
    environment = {**os.environ, "CAHP_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    program = "from cahp.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        program,
        *map(str, words),
        "--budget",
        "6",
        "--json",
        "--out",
        str(tmp_path / "out"),
    ]
    both = [
        subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    first, second = (json.loads(out) for out, _ in answers)
    assert first["kept"] == second["kept"]
    assert first["metrics"] == second["metrics"]
    validate_run(json.loads((tmp_path / "out" / "run.json").read_text()))
    assert list(tmp_path.rglob(".*")) == []


def test_the_reader_of_a_pipe_may_leave_early() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from cahp.cli import main; main()", "data"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


# --- the other commands


def test_evaluate_with_the_mask_of_a_run_finds_the_run_s_own_figures(
    model: Path, data: Path, folder: Path, run: dict[str, Any]
) -> None:
    asked = ["evaluate", "--model", model, "--data", data, "--device", "cpu", "--mask", folder / "head_mask.json"]
    for more in ([], ["--no-cache"]):
        answer = call(*asked, *more, "--json")
        assert (answer.code, answer.err) == (0, "")
        assert answer.document["metrics"]["full"] == run["metrics"]["full"]
        assert answer.document["metrics"]["pruned"] == run["metrics"]["pruned"]
        assert answer.document["delta"]["pruned"] == run["delta"]["pruned"]
    assert "5 of 12 heads" in call(*asked).out


def test_latency_says_what_a_run_says(model: Path, folder: Path) -> None:
    asked = ["latency", "--model", model, "--mask", folder / "head_mask.json", "--repeats", 5, "--device", "cpu"]
    answer = call(*asked, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert answer.document["kept"] == {"heads": 5, "of": 12}
    assert answer.document["cost"]["pruned"]["latency_ms"]["repeats"] == 5
    assert "pruned / full" in call(*asked).out


@pytest.mark.parametrize("command", ["evaluate", "latency", "recover"])
def test_a_mask_that_cannot_be_used_is_refused(command: str, model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"7": [0]}))
    (tmp_path / "broken.json").write_text("{")
    more = {"evaluate": ["--data", data], "latency": [], "recover": ["--data", data, "--out", tmp_path / "out"]}[
        command
    ]
    for mask, named in (("other.json", "3 layers"), ("broken.json", "head_mask.json"), ("none.json", "No such file")):
        assert named in refused(call(command, "--model", model, *more, "--mask", tmp_path / mask))
    assert not (tmp_path / "out").exists()


def test_models_lists_what_is_built_in_and_looks_at_one(model: Path) -> None:
    assert [one["name"] for one in call("models", "--json").document] == ["minilm-bbc", "minilm-sst5", "minilm"]
    assert "minilm-bbc" in call("models").out
    found = call("models", model, "--json").document
    assert (found["layers"], found["heads"], found["labels"]) == (LAYERS, HEADS, ["bad", "good"])
    assert "3 layers x 4 = 12" in call("models", model).out
    assert "built-in" in refused(call("models", "no-such-model"))


def test_data_lists_what_is_known_and_looks_into_one(data: Path) -> None:
    assert [one["name"] for one in call("data", "--json").document] == ["bbc-news", "sst5", "mnli"]
    # Nobody needs to install what the hub has.
    assert "(not installed)" not in call("data").out.splitlines()[1]
    found = call("data", data, "--json").document
    assert found["splits"]["train"] == {"examples": 120, "class_counts": {"bad": 60, "good": 60}}
    assert "bad 60, good 60" in call("data", data).out
    assert "no data named" in refused(call("data", "no-such-data"))


def test_bench_prints_ratios_and_says_whether_the_heads_agree(model: Path, data: Path) -> None:
    asked = ["bench", "--model", model, "--data", data, "--limit", 32, "--rounds", 1, "--device", "cpu", "--quiet"]
    answer = call(*asked, "--json")
    assert (answer.code, answer.err) == (0, "")
    assert set(answer.document["ratios"]) == {"signatures_to_forward", "naive_to_selection"}
    assert all(ratio > 0 for ratio in answer.document["ratios"].values())
    assert answer.document["texts"] == 32


def test_a_fitted_classifier_is_pruned_like_any_other(data: Path, tmp_path: Path) -> None:
    encoder = fakes.save_encoder(tmp_path / "encoder")
    asked = ["fit", "--model", encoder, "--data", data, "--out", tmp_path / "mine", "--epochs", 1, "--device", "cpu"]
    answer = call(*asked, "--quiet")
    assert (answer.code, answer.err) == (0, "")
    assert f"cahp prune --model {tmp_path / 'mine'} --data {data}" in answer.out
    run = call(
        "prune", "--model", tmp_path / "mine", "--data", data, "--pool-size", 8, "--budget", 4, "--json"
    ).document
    assert (run["budget"]["attained"], run["data"]["classes"]) == (4, ["bad", "good"])


def test_a_repaired_model_is_written_and_said_to_be(model: Path, data: Path, folder: Path, tmp_path: Path) -> None:
    asked = [
        "recover",
        "--model",
        model,
        "--data",
        data,
        "--mask",
        folder / "head_mask.json",
        "--out",
        tmp_path / "new",
    ]
    answer = call(*asked, "--device", "cpu")
    assert (answer.code, answer.err) == (0, "")
    assert "AutoModelForSequenceClassification" in answer.out
    assert "refit" in answer.out
    assert (tmp_path / "new" / "model.safetensors").is_file()
    answer = call(*asked, "--device", "cpu", "--json")
    assert answer.document["kept"] == {"heads": 5, "of": 12}


def test_the_budget_on_the_command_line_is_the_one_of_the_library(
    words: list[object], model: Path, data: Path, run: dict[str, Any], tmp_path: Path
) -> None:
    settings = Settings(model=str(model), data=str(data), pool_size=POOL, projection="pca", device="cpu", budget="5")
    found = prune(settings, store=Store(tmp_path))
    assert {str(layer): heads for layer, heads in enumerate(found.mask.by_layer)} == run["kept"]
