from __future__ import annotations

import io
import json
import math
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cahp.exports.masks import (
    MaskOrigin,
    mask_csv,
    mask_json,
    mask_pattern,
    read_mask,
    read_mask_record,
)
from cahp.files import json_text
from cahp.values import HeadMask, MaskError

MASK = HeadMask(np.array([[True, False, True], [False, True, False]]))
DOCUMENT = json.loads(mask_json(MASK, MaskOrigin("minilm-bbc", "cahp", 3, {"pruned": 0.9})))


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


@pytest.mark.parametrize("value", [[object()], Path("a"), np.array([1j])])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="JSON"):
        json_text(value)


# --- masks

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)).map(HeadMask)


@given(masks)
def test_any_mask_comes_back_from_json_as_it_was(mask: HeadMask) -> None:
    document = json.loads(mask_json(mask, MaskOrigin("m", "random", mask.count, {})))
    file = json_text(document).encode()
    np.testing.assert_array_equal(read_mask(file).keep, mask.keep, strict=True)
    assert read_mask_record(file) == document


@given(masks, st.sampled_from([np.bool_, np.uint8, np.int64, np.float32]))
def test_any_mask_comes_back_from_a_numpy_array(mask: HeadMask, dtype: type) -> None:
    file = io.BytesIO()
    np.save(file, mask.keep.astype(dtype))
    np.testing.assert_array_equal(read_mask(file.getvalue()).keep, mask.keep, strict=True)
    assert read_mask_record(file.getvalue()) == {}


@given(masks)
def test_any_mask_comes_back_from_the_tables_that_are_written_of_it(mask: HeadMask) -> None:
    origin = MaskOrigin("m", "random", 3, columns={"role": ["a, b"] * mask.keep.size})
    files = [mask_csv(mask, origin)]
    if mask.heads > 1:
        # A single number is JSON, too.
        files.append(mask_pattern(mask))
    for file in files:
        np.testing.assert_array_equal(read_mask(file).keep, mask.keep, strict=True)
        assert read_mask_record(file) == {}


def test_the_older_list_of_pruned_heads_is_read_with_the_size_of_the_model() -> None:
    file = b'{"0": [1], "1": [2, 0]}'
    mask = read_mask(file, layers=3, heads=3)
    np.testing.assert_array_equal(mask.keep, np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1]], dtype=bool))
    assert read_mask_record(file) == {}
    with pytest.raises(MaskError, match="name its model"):
        read_mask(file)


def test_a_mask_is_read_from_a_path(tmp_path: Path) -> None:
    np.save(tmp_path / "head_mask.npy", MASK.keep)
    (tmp_path / "head_mask.json").write_text(json_text(DOCUMENT), encoding="utf-8")
    for name in ("head_mask.npy", "head_mask.json"):
        for source in (tmp_path / name, str(tmp_path / name)):
            assert read_mask(source).sha256 == MASK.sha256
    for missing in (tmp_path / "none.json", "none.json", json_text(DOCUMENT), tmp_path, Path("a\0b")):
        with pytest.raises(MaskError, match="cannot be read"):
            read_mask(missing)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "cahp.mask/2"}, r"cahp\.mask/2"),
        ({"schema": None}, "malformed"),
        ({"keep": [1, 0, 1]}, "malformed"),
        ({"keep": reduce(lambda inner, _: [inner], range(300), [1])}, "malformed"),
        ({"keep": [[1, 0, 1], [0, 1]]}, "Every row"),
        ({"heads_per_layer": 4}, "Every row"),
        ({"keep": [[1, 0, 1], [0, 1, 2]]}, "malformed"),
        ({"keep": [[1, 0, 1], [0, [1], 0]]}, "malformed"),
        ({"keep": [[1, 0, 1], [0, 1, 1]]}, "changed by hand"),
        ({"sha256": None}, "malformed"),
    ],
)
def test_a_malformed_mask_document_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    for read in (read_mask, read_mask_record):
        with pytest.raises(MaskError, match=reason):
            read(json.dumps({**DOCUMENT, **change}).encode())


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


#: Contents that are no mask of two layers of three heads, and the reason.
REFUSED: list[tuple[str | bytes, str]] = [
    # Text.
    ("", "neither JSON nor"),
    ('{"0": [1', "neither JSON nor"),
    ('\udcff{"0": [1]}', "neither JSON nor"),
    ("[" * 100_000, "neither JSON nor"),
    ('{"0": [' + "9" * 5000 + "]}", "neither JSON nor"),
    ("[[1, 0]]", "no head mask"),
    ("{}", "no head mask"),
    ('{"0": 1}', "neither kept heads nor"),
    ('{"-1": [0]}', "neither kept heads nor"),
    ('{"0": [3]}', "2 layers of 3 heads"),
    ('{"0": [-1]}', "2 layers of 3 heads"),
    ('{"0": ["1"]}', "2 layers of 3 heads"),
    ('{"2": [0]}', "2 layers of 3 heads"),
    (" " * (1 << 20) + "{}", "too large"),
    # Tables.
    ("0\t1\n1\t0\t1\n", "table"),
    ("layer,head,kept\n", "table"),
    ("layer,head,kept\n0,1,1\n", "table"),
    ("layer,head,kept\n0,0,2\n", "0 and 1"),
    ("layer,head,kept\n0,0\n0,1\n", "table"),
    ("layer,head,kept\n0,0,99999999999999999999\n", "table"),
    # Arrays.
    (saved(np.zeros(3)), "shape"),
    (saved(np.zeros((2, 0))), "shape"),
    (saved(np.full((2, 2), 2)), "0 and 1"),
    (saved(np.full((2, 2), np.nan)), "0 and 1"),
    (saved(np.full((2, 2), None)), "Python objects"),
]


@pytest.mark.parametrize(("content", "reason"), REFUSED, ids=[f"{row[0][:20]!r}" for row in REFUSED])
def test_what_is_no_mask_is_refused_with_the_reason(content: str | bytes, reason: str) -> None:
    if isinstance(content, str):
        content = content.encode(errors="surrogateescape")
    with pytest.raises(MaskError, match=reason):
        read_mask(content, layers=2, heads=3)


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
        mask = read_mask(data, layers=2, heads=3)
    except MaskError:
        return
    assert mask.keep.dtype == np.bool_
