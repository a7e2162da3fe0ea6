import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cahp.exports import formats
from cahp.exports.masks import MASK_SUFFIXES, MaskOrigin, mask_csv, mask_json, mask_pattern, read_mask, read_mask_record
from cahp.files import json_text
from cahp.values import HeadMask, MaskError

MASK = HeadMask(np.array([[True, False, True], [False, True, False]]))
DOCUMENT = json.loads(mask_json(MASK, MaskOrigin("minilm-bbc", "cahp", 3, {"pruned": 0.9})))


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_numpy_values_become_plain_numbers_and_what_is_not_finite_becomes_null() -> None:
    value = [np.int64(3), np.bool_(True), np.array([0.5, np.nan]), (math.inf, -math.inf, np.float32(0.25)), None]
    assert json.loads(json_text(value)) == [3, True, [0.5, None], [None, None, 0.25], None]


@pytest.mark.parametrize("value", [[object()], Path("a"), np.array([1j])])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="JSON"):
        json_text(value)


masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)).map(HeadMask)


@given(masks)
def test_any_mask_comes_back_from_json_as_it_was(mask: HeadMask) -> None:
    document = json.loads(mask_json(mask, MaskOrigin("m", "random", mask.count, {})))
    file = json_text(document).encode()
    np.testing.assert_array_equal(read_mask(file).keep, mask.keep, strict=True)
    assert read_mask_record(file) == document


@given(masks, st.sampled_from([np.bool_, np.uint8, np.int64, np.float32]))
def test_any_mask_comes_back_from_a_numpy_array(mask: HeadMask, dtype: type) -> None:
    file = saved(mask.keep.astype(dtype))
    np.testing.assert_array_equal(read_mask(file).keep, mask.keep, strict=True)
    assert read_mask_record(file) == {}


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
        ({"keep": [[1, 0, 1], [0, 1, 1]]}, "changed by hand"),
        ({"sha256": None}, "malformed"),
    ],
)
def test_a_malformed_mask_document_is_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    for read in (read_mask, read_mask_record):
        with pytest.raises(MaskError, match=reason):
            read(json.dumps({**DOCUMENT, **change}).encode())


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


def tensor(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def repacked(data: bytes, change: Callable[[bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A PyTorch file whose tensor has other content, or none."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("/data/0"):
                content = change(content)
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def array(shape: str, dtype: str = "|b1", content: bytes = b"\1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize("shape", ["(40000, 40000)", "(1000000000000, 2)", "(2, 9223372036854775807)"])
def test_room_is_made_for_no_array_beyond_every_model(shape: str) -> None:
    with pytest.raises(MaskError, match="more than any model has heads"):
        read_mask(array(shape))
    # An expanded tensor is counted and not made.
    data = tensor(torch.zeros(1, 1, dtype=torch.bool).expand(40_000, 40_000))
    assert len(data) < 2000
    with pytest.raises(MaskError, match="40000 x 40000 values, more than any model has heads"):
        read_mask(data)


@pytest.mark.parametrize("shape", ["(-1, 2)", "(2,)", "()", "(True, 2)", "(2, 3)", "(" * 300 + "2" + ")" * 300, "{}"])
def test_an_array_that_says_nonsense_of_itself_is_refused(shape: str) -> None:
    with pytest.raises(MaskError):
        read_mask(array(shape))


def test_a_tensor_that_has_less_content_than_it_says_is_not_read() -> None:
    whole = tensor(torch.ones(6, 12, dtype=torch.bool))
    assert read_mask(whole).count == 72
    # What stands behind these three bytes in memory is nobody's mask.
    short = repacked(whole, lambda content: content[:3])
    missing = repacked(whole, lambda content: None)
    # Content that is compressed is not unpacked.
    swollen = repacked(whole, lambda content: bytes(20 << 20), zipfile.ZIP_DEFLATED)
    assert len(swollen) < 1 << 20
    for file in (short, missing, swollen):
        with pytest.raises(MaskError, match="broken"):
            read_mask(file)


ONES = torch.ones(6, 12)


@pytest.mark.parametrize("value", [ONES.to_sparse(), [ONES], {"keep": ONES}, torch.nn.Parameter(ONES), 7])
def test_a_pytorch_file_of_anything_but_one_plain_tensor_is_refused(value: object) -> None:
    with pytest.raises(MaskError):
        read_mask(tensor(value))


def test_a_part_of_a_larger_tensor_is_a_mask_still() -> None:
    keep = torch.tensor(np.arange(8 * 20).reshape(8, 20) % 3 == 0)
    for part in (keep[1:7, 4:16], keep.T):
        np.testing.assert_array_equal(read_mask(tensor(part)).keep, part.numpy())
    # Each form of a mask may be uploaded again.
    assert {Path(form.file).suffix.removeprefix(".") for form in formats.mask_forms()} == set(MASK_SUFFIXES)
