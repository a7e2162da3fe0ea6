"""``cahp prune`` as its users meet it: what is asked, what is refused, and what a run says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import prune
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal import call, refused

from cahp import methods
from cahp.api import bundled
from cahp.data import parse_label_map
from cahp.exports.masks import read_mask, read_mask_record
from cahp.exports.report import recipe
from cahp.run.document import RunDocument
from cahp.run.settings import Settings
from cahp.stages.selection import parse_budget
from cahp.store import Store
from cahp.values import CahpError

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEADS, CLASSES, POOL = 3, 4, 2, 8


# --- what is asked


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        # Invalid by itself, for this model, and for these data; all options are tried on ``Settings`` and on ``prune``.
        ("--projection mds", "--projection"),
        ("--budget 13", "3 to 12"),
        ("--label-map worse=bad", "'worse'"),
    ],
)
def test_an_impossible_option_is_one_sentence_and_leaves_no_folder(
    words: list[object], asked: str, named: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert named in refused(call(*words, *asked.split(), "--out", out))
    assert not out.exists()


def parsed(parse: Callable[[], Any]) -> tuple[Any, str]:
    """What the library makes of a text: its value, or the sentence with which it is refused."""
    try:
        return parse(), ""
    except CahpError as error:
        return None, " ".join(str(error).split())


@settings(max_examples=50)
@given(st.text(max_size=12) | st.from_regex(r"-?[0-9]{0,5}\.?[0-9]{0,3} ?%?", fullmatch=True))
def test_any_typed_budget_is_read_as_by_the_library(words: list[object], text: str) -> None:
    answer = call(*words, f"--budget={text}", "--json")
    budget, sentence = parsed(lambda: parse_budget(text, total=LAYERS * HEADS, layers=LAYERS))
    if sentence:
        assert refused(answer) == sentence
    else:
        assert (answer.code, answer.err) == (0, "")
        assert answer.document["budget"]["requested"] == budget
        assert budget is None or 3 <= budget <= 12


@settings(max_examples=50)
@given(st.text(max_size=20) | st.text(alphabet='ab=," \n\t\\', max_size=20))
def test_any_typed_label_map_is_read_as_by_the_library(words: list[object], text: str) -> None:
    # The data have no label of such a name, so the next sentence is about the labels, or without a map the budget.
    said = refused(call(*words, "--budget=1", f"--label-map={text}"))
    pairs, sentence = parsed(lambda: parse_label_map(text) if text else {})
    if sentence:
        assert said == sentence
    else:
        assert said.startswith("--label-map names" if pairs else "budget 1 is outside")
        assert all(ours.strip() and theirs.strip() for ours, theirs in pairs.items())


def test_the_budget_on_the_command_line_is_the_one_of_the_library(
    words: list[object], model: Path, data: Path, run: dict[str, Any], tmp_path: Path
) -> None:
    found = prune(fakes.quick(model, data, budget="5"), store=Store(tmp_path))
    assert {str(layer): heads for layer, heads in enumerate(found.mask.by_layer)} == run["kept"]


# --- by which method


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=[pytest.mark.slow] if methods.facts(name).learned else []) for name in methods.names()],
)
def test_every_method_can_choose_and_is_named_by_all_that_is_written(
    words: list[object], method: str, tmp_path: Path
) -> None:
    answer = call(*words, "--method", method, "--budget", 6, "--out", tmp_path)
    assert (answer.code, answer.err) == (0, "")
    run = json.loads((tmp_path / "run.json").read_text())
    assert RunDocument.from_json(run).to_json() == run
    assert run["settings"]["method"] == method
    assert run["budget"] == {"requested": 6, "attained": 6}
    assert read_mask_record(tmp_path / "head_mask.json")["method"] == method
    assert (f"heads kept by {method} (" in answer.out) is (method != "complementary")
    # Shown by the explorer, the run is asked for by its method too.
    shown = shlex.split(recipe(Settings(**run["settings"])))
    assert ("--method" in shown) is (method != "complementary")
    again = call(*shown[1:-2], "--json").document
    assert (again["kept"], again["settings"]) == (run["kept"], run["settings"])


def test_a_method_that_suggests_no_budget_says_so_and_others_take_the_knee_s(words: list[object]) -> None:
    said = refused(call(*words, "--method", "magnitude"))
    assert said == "magnitude cannot suggest how many heads to keep; give --budget a number"
    for method in ("random-in-cluster", "random-per-layer"):
        answer = call(*words, "--method", method)
        assert (answer.code, answer.err) == (0, "")
        run = call(*words, "--method", method, "--json").document
        assert run["budget"]["requested"] is None
        assert f"is at {run['knee']} clusters" in answer.out


def test_an_unknown_method_is_answered_with_all_there_are_before_data_are_read(words: list[object]) -> None:
    said = refused(call(*words, "--data", "no-such-data", "--method", "clairvoyant"))
    assert said == f"no method named 'clairvoyant'; choose one of {', '.join(methods.names())}"


def test_a_method_s_own_option_reaches_it_from_the_command_line(words: list[object]) -> None:
    kept = [
        call(*words, "--budget", 4, "--min-per-layer", 0, "--representative", how, "--json").document["kept"]
        for how in ("salience", "medoid")
    ]
    assert kept[0] != kept[1]


# --- what data are refused


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
    "unlabelled.csv": (b"text\ngood film\n", "at least 30"),
    "other-column.csv": (b"text,topic\ngood film,a\n", "--label-column"),
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


def test_a_method_that_is_measurably_better_is_named_where_cahp_chose(
    words: list[object], run: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(bundled, "describe_better_method", lambda *of: asked.append(of) or ("gradient", "It is better"))
    options = (*words, "--budget", 5, "--recover", "refit")
    assert "  It is better; --method gradient selects its heads\n" in call(*options).out
    assert asked == [(run["model"]["id"], run["model"]["sha256"], "refit", 5)]
    assert "It is better" not in call(*options, "--method", "magnitude").out


def test_a_run_that_does_not_report_leaves_the_test_split_closed(
    words: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a cache that knows of no other test's opening.
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path))
    assert call(*words, "--budget", 5, "--json").document["test_opened"] == 0


def test_json_prints_the_run_file_and_nothing_else(words: list[object], run: dict[str, Any]) -> None:
    answer = call(*words, "--budget", 5, "--recover", "refit", "--json")
    assert (answer.code, answer.err) == (0, "")
    # Another test may have timed the same mask since, on a machine that was busy or not.
    changing = {"timings", "cached", "command", "cost", "latency_ratio", "attention_share", "notices"}
    assert answer.document.keys() == run.keys()
    assert {name: value for name, value in answer.document.items() if name not in changing} == {
        name: value for name, value in run.items() if name not in changing
    }


def test_the_command_is_kept_as_it_was_typed(words: list[object], run: dict[str, Any], folder: Path) -> None:
    assert run["command"].split()[:3] == ["cahp", "prune", "--model"]
    assert run["command"].endswith(f"--budget 5 --recover refit --out {folder}")


def test_the_run_file_follows_the_contract(run: dict[str, Any], model: Path) -> None:
    assert RunDocument.from_json(run).to_json() == run
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
    assert run["test_opened"] >= 0


def test_what_was_not_measured_is_null(words: list[object]) -> None:
    run = call(*words, "--budget", 4, "--no-latency", "--json").document
    assert run["metrics"]["recovered"] is run["delta"]["recovered"] is run["refit"] is run["report"] is None
    assert run["cost"]["pruned"] == {"parameters": None, "flops": None, "latency_ms": None}
    assert run["latency_ratio"] is run["attention_share"] is None
    assert run["timings"]["recovery_s"] is None


def test_the_mask_file_holds_the_heads_of_the_run(folder: Path, run: dict[str, Any]) -> None:
    mask = read_mask(folder / "head_mask.json")
    said = read_mask_record(folder / "head_mask.json")
    mask.check_fits(LAYERS, HEADS, "tiny")
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
