from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cahp.export.masks import check_fits, check_folder, mask_to_json, read_mask, validate_run, write_run
from cahp.files import json_text
from cahp.values import CahpError, HeadMask, MaskError

MASK = HeadMask(np.array([[True, False, True], [False, True, False]]))
DOCUMENT = mask_to_json(MASK, model="minilm-bbc", method="cahp", budget=3, metrics={"pruned": 0.9})


def scores(accuracy: float) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "macro_f1": 0.8,
        "loss": 0.5,
        "n": 100,
        "ci95": [0.8, 0.95],
        "agreement": 1.0,
    }


def complete_run() -> dict[str, Any]:
    split = {"split": "train", "examples": 10, "class_counts": [5, 5], "sha256": "0" * 64}
    latency = {"median": 12.5, "p95": 14.0, "batch": 32, "length": 36, "repeats": 20}
    cost = {"parameters": 22_000_000, "flops": 1e9, "latency_ms": latency}
    return {
        "schema": "cahp.run/1",
        "model": {
            "id": "minilm-bbc",
            "revision": None,
            "family": "bert",
            "layers": 2,
            "heads": 3,
            "sha256": "0",
        },
        "data": {"id": "bbc-news", "select": split, "eval": split},
        "settings": {"seed": 42},
        "knee": 3,
        "knee_rule": "polynomial-6",
        "budget": {"requested": None, "attained": 3},
        "kept": {"0": [0, 2], "1": [1]},
        "rescued": [[1, 1]],
        "metrics": {"full": scores(0.95), "pruned": scores(0.9), "recovered": None},
        "delta": {"pruned": {"pp": -5.0, "ci95": [-8.0, -2.0]}, "recovered": None},
        "refit": {"accepted": True, "reason": "held-out fifth agrees", "examples": 500},
        "cost": {"full": cost, "pruned": cost},
        "latency_ratio": {"median": 0.8, "ci95": [0.75, 0.85]},
        "attention_share": 0.4,
        "timings": {
            "signatures_s": 3.0,
            "features_s": 0.1,
            "projection_s": 0.6,
            "clustering_s": 0.7,
            "salience_s": 1.0,
            "evaluation_s": 2.0,
            "recovery_s": None,
            "total_s": 8.0,
        },
        "cached": ["signatures"],
        "verified": {"mask_bites": True, "mask_equals_surgery": True},
        "test_opened": 0,
        "versions": {"torch": "2.13.0"},
        "command": "cahp prune --model minilm-bbc --data bbc-news",
    }


def write(folder: Path, **changes: Any) -> None:
    options: dict[str, Any] = {
        "run": complete_run(),
        "mask": MASK,
        "arrays": {"salience": np.arange(6.0), "labels": np.array([0, 0, 1, 1, 2, 2])},
        "model_id": "minilm-bbc",
        "method": "cahp",
        "metrics": {"pruned": scores(0.9)},
    }
    write_run(folder, **{**options, **changes})


# --- JSON


def test_json_text_has_a_line_for_each_innermost_list_and_keeps_the_order_of_keys() -> None:
    value = {"b": {"rows": [[1, 0], [0, 1]]}, "a": [], "empty": {}, "text": "ä"}
    assert json_text(value) == (
        '{\n  "b": {\n    "rows": [\n      [1, 0],\n      [0, 1]\n    ]\n  },\n'
        '  "a": [],\n  "empty": {},\n  "text": "\\u00e4"\n}\n'
    )


def test_numpy_values_become_plain_numbers_and_what_is_not_finite_becomes_null() -> None:
    value = {
        "whole": np.int64(3),
        "flag": np.bool_(True),
        "vector": np.array([0.5, np.nan]),
        "limits": (math.inf, -math.inf, np.float32(0.25)),
        "nothing": None,
    }
    assert json.loads(json_text(value)) == {
        "whole": 3,
        "flag": True,
        "vector": [0.5, None],
        "limits": [None, None, 0.25],
        "nothing": None,
    }


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_keeps_all_its_digits(number: float) -> None:
    assert json.loads(json_text({"x": number}))["x"] == number


@pytest.mark.parametrize("value", [{1: 2}, {"a": {1, 2}}, [object()], b"ab", Path("a"), np.array([1j])])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="JSON"):
        json_text(value)


# --- runs


def test_a_run_is_three_files_that_say_the_same(tmp_path: Path) -> None:
    write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "arrays.npz",
        "head_mask.json",
        "run.json",
    ]
    assert json.loads((tmp_path / "out" / "run.json").read_text()) == complete_run()
    mask, said = read_mask(tmp_path / "out" / "head_mask.json")
    np.testing.assert_array_equal(mask.keep, MASK.keep)
    assert (said["model"], said["method"], said["budget"]) == (
        "minilm-bbc",
        "cahp",
        {"requested": None, "attained": 3},
    )
    with np.load(tmp_path / "out" / "arrays.npz", allow_pickle=False) as found:
        assert list(found) == ["salience", "labels"]
        np.testing.assert_array_equal(found["salience"], np.arange(6.0))


def test_run_json_has_its_keys_in_the_order_of_the_schema_and_unknown_ones_last(tmp_path: Path) -> None:
    run = complete_run()
    run["model"] = dict(reversed(run["model"].items()))
    shuffled = {"note": "extra", **dict(reversed(run.items()))}
    write(tmp_path, run=shuffled)
    found = json.loads((tmp_path / "run.json").read_text())
    assert list(found) == [*complete_run(), "note"]
    assert list(found["model"]) == list(complete_run()["model"])


def test_a_second_run_replaces_the_first_and_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path)
    write(tmp_path, run={**complete_run(), "knee": 4})
    assert json.loads((tmp_path / "run.json").read_text())["knee"] == 4
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": {"objects": np.array([object()])}},
        {"run": {**complete_run(), "kept": {"0": [0, 1], "1": [1]}}},
        {"run": {**complete_run(), "kept": {}}},
    ],
)
def test_a_run_that_is_not_of_one_piece_is_refused_and_the_last_one_stays(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"were kept|Python objects"):
        write(tmp_path, **change)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_a_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "inside", tmp_path / ("x" * 300)):
        for attempt in (write, check_folder):
            with pytest.raises(CahpError, match="--out"):
                attempt(folder)


def test_a_folder_that_passes_the_check_exists_and_is_empty(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "out")
    assert list((tmp_path / "new" / "out").iterdir()) == []


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        for attempt in (write, check_folder):
            with pytest.raises(CahpError, match="Permission denied"):
                attempt(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def required_paths(section: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the complete run but those inside free-form objects."""
    paths = []
    for name, value in section.items():
        paths.append((*path, name))
        if isinstance(value, dict) and name not in {"settings", "kept", "versions"}:
            paths += required_paths(value, (*path, name))
    return paths


@pytest.mark.parametrize("path", required_paths(complete_run()), ids=".".join)
def test_a_run_without_a_key_of_its_schema_is_refused_by_name(path: tuple[str, ...]) -> None:
    run = copy.deepcopy(complete_run())
    section = run
    for name in path[:-1]:
        section = section[name]
    del section[path[-1]]
    with pytest.raises(CahpError, match=r"cahp\.run/1" if path == ("schema",) else r"\.".join(path)):
        validate_run(run)


@pytest.mark.parametrize("run", [None, [], "run", {}, {"schema": "cahp.run/2"}, {"schema": ["cahp.run/1"]}])
def test_what_is_no_run_is_refused(run: object) -> None:
    with pytest.raises(CahpError, match=r"cahp\.run/1"):
        validate_run(run)


def test_what_was_not_measured_may_be_null_but_not_a_number() -> None:
    validate_run({**complete_run(), "metrics": None, "cost": None, "refit": None})
    with pytest.raises(CahpError, match="cost"):
        validate_run({**complete_run(), "cost": 0})


# --- masks

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)).map(HeadMask)


def test_a_mask_document_follows_its_schema() -> None:
    assert list(DOCUMENT.items()) == [
        ("schema", "cahp.mask/1"),
        ("model", "minilm-bbc"),
        ("heads_per_layer", 3),
        ("keep", [[1, 0, 1], [0, 1, 0]]),
        ("method", "cahp"),
        ("budget", 3),
        ("metrics", {"pruned": 0.9}),
        ("sha256", hashlib.sha256(bytes([1, 0, 1, 0, 1, 0])).hexdigest()),
    ]


@given(masks)
def test_any_mask_comes_back_from_json_as_it_was(mask: HeadMask) -> None:
    document = mask_to_json(mask, model="m", method="random", budget=mask.count, metrics={})
    found, said = read_mask(json_text(document))
    np.testing.assert_array_equal(found.keep, mask.keep, strict=True)
    assert said == document


@given(masks, st.sampled_from([np.bool_, np.uint8, np.int64, np.float32]))
def test_any_mask_comes_back_from_a_numpy_array(mask: HeadMask, dtype: type) -> None:
    file = io.BytesIO()
    np.save(file, mask.keep.astype(dtype))
    found, said = read_mask(file.getvalue())
    np.testing.assert_array_equal(found.keep, mask.keep, strict=True)
    assert said == {}


def test_the_older_list_of_pruned_heads_is_read_with_the_size_of_the_model() -> None:
    mask, said = read_mask('{"0": [1], "1": [2, 0]}', layers=3, heads=3)
    np.testing.assert_array_equal(mask.keep, np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], dtype=bool))
    assert said == {}
    with pytest.raises(MaskError, match="name the model"):
        read_mask('{"0": [1]}')


def test_a_mask_is_read_from_a_path(tmp_path: Path) -> None:
    np.save(tmp_path / "head_mask.npy", MASK.keep)
    (tmp_path / "head_mask.json").write_text(json_text(DOCUMENT), encoding="utf-8")
    for name in ("head_mask.npy", "head_mask.json"):
        assert read_mask(tmp_path / name)[0].sha256 == MASK.sha256
    for missing in (tmp_path / "none.json", tmp_path, Path("a\0b")):
        with pytest.raises(MaskError, match="cannot be read"):
            read_mask(missing)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "cahp.mask/2"}, r"cahp\.mask/1"),
        ({"schema": None}, r"cahp\.mask/1"),
        ({"keep": None}, "list of rows"),
        ({"keep": []}, "list of rows"),
        ({"keep": [[], []]}, "list of rows"),
        ({"keep": [1, 0, 1]}, "list of rows"),
        ({"keep": [[1, 0, 1], [0, 1]]}, "Every row"),
        ({"heads_per_layer": 4}, "Every row"),
        ({"heads_per_layer": [3, 3]}, "Every row"),
        ({"keep": [[1, 0, 1], [0, 1, 2]]}, "0 and 1"),
        ({"keep": [[1, 0, 1], [0, 1, -1]]}, "0 and 1"),
        ({"keep": [[1, 0, 1], [0, 1, 0.0]]}, "0 and 1"),
        ({"keep": [[1, 0, 1], [0, True, 0]]}, "0 and 1"),
        ({"keep": [[1, 0, 1], [0, [1], 0]]}, "0 and 1"),
        ({"keep": [[1, 0, 1], [0, 1, 1]]}, "changed by hand"),
        ({"sha256": None}, "changed by hand"),
    ],
)
def test_a_malformed_mask_document_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(MaskError, match=reason):
        read_mask(json.dumps({**DOCUMENT, **change}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither JSON nor"),
        ("keep them all", "neither JSON nor"),
        ("[" * 100_000, "neither JSON nor"),
        ('{"0": [' + "9" * 5000 + "]}", "neither JSON nor"),
        ("[[1, 0]]", "no head mask"),
        ("{}", "no head mask"),
        ("1", "no head mask"),
        ('{"0": 1}', "neither kept heads nor"),
        ('{"-1": [0]}', "neither kept heads nor"),
        ('{"layer": [0]}', "neither kept heads nor"),
        ('{"0": [3]}', "2 layers of 3 heads"),
        ('{"0": [-1]}', "2 layers of 3 heads"),
        ('{"0": [true]}', "2 layers of 3 heads"),
        ('{"0": ["1"]}', "2 layers of 3 heads"),
        ('{"2": [0]}', "2 layers of 3 heads"),
        (" " * (1 << 20) + "{}", "too large"),
    ],
)
def test_text_that_is_no_mask_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(MaskError, match=reason):
        read_mask(text, layers=2, heads=3)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((2, 0)), "shape"),
        (np.full((2, 2), 2), "0 and 1"),
        (np.full((2, 2), np.nan), "0 and 1"),
        (np.full((2, 2), "1"), "0 and 1"),
        (np.full((2, 2), None), "Python objects"),
    ],
)
def test_a_numpy_array_that_is_no_mask_is_refused_with_the_reason(array: Any, reason: str) -> None:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    with pytest.raises(MaskError, match=reason):
        read_mask(file.getvalue())


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


VALID = [json_text(DOCUMENT).encode(), saved(MASK.keep), b'{"0": [1], "1": [2, 0]}']


@given(
    st.one_of(
        st.binary(),
        st.binary().map(lambda tail: b"\x93NUMPY" + tail),
        st.binary().map(lambda tail: b"\x93NUMPY\x01\x00" + tail),
        # Valid files with a stretch of bytes replaced.
        st.builds(
            lambda data, place, new: data[: place % len(data)] + new + data[place % len(data) + len(new) :],
            st.sampled_from(VALID),
            st.integers(0, 10_000),
            st.binary(min_size=1, max_size=4),
        ),
    )
)
def test_whatever_the_bytes_are_they_are_a_mask_or_a_mask_error(data: bytes) -> None:
    try:
        mask, _ = read_mask(data, layers=2, heads=3)
    except MaskError:
        return
    assert mask.keep.dtype == np.bool_


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(st.sampled_from(sorted(DOCUMENT)), json_values)
def test_whatever_json_stands_in_a_field_it_is_the_same_mask_or_a_mask_error(name: str, value: Any) -> None:
    try:
        mask, _ = read_mask(json.dumps({**DOCUMENT, name: value}))
    except MaskError:
        assert name in {"schema", "heads_per_layer", "keep", "sha256"}
    else:
        assert mask.sha256 == MASK.sha256


def test_a_mask_must_have_the_shape_of_the_model_it_is_used_for() -> None:
    check_fits(MASK, 2, 3, "minilm-bbc")
    with pytest.raises(MaskError, match=r"2 x 3 .* gpt2 has 12 x 12"):
        check_fits(MASK, 12, 12, "gpt2")
