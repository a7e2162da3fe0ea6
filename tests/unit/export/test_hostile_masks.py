"""Files that claim to be masks and would fill the machine."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cahp.exports.masks import read_mask
from cahp.values import MaskError


def tensor(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def repacked(data: bytes, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A PyTorch file with other entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def array(shape: str, dtype: str = "|b1", content: bytes = b"\1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def test_an_expanded_tensor_is_counted_and_not_made() -> None:
    data = tensor(torch.zeros(1, 1, dtype=torch.bool).expand(40_000, 40_000))
    assert len(data) < 2000
    with pytest.raises(MaskError, match="40000 x 40000 values, more than any model has heads"):
        read_mask(data)


@pytest.mark.parametrize("shape", ["(40000, 40000)", "(1000000000000, 2)", "(2, 9223372036854775807)"])
def test_room_is_made_for_no_array_beyond_every_model(shape: str) -> None:
    with pytest.raises(MaskError, match="more than any model has heads"):
        read_mask(array(shape))


@pytest.mark.parametrize("shape", ["(-1, 2)", "(2,)", "()", "(True, 2)", "(2, 3)", "(" * 300 + "2" + ")" * 300, "{}"])
def test_an_array_that_says_nonsense_of_itself_is_refused(shape: str) -> None:
    with pytest.raises(MaskError):
        read_mask(array(shape))


def test_a_tensor_that_has_less_content_than_it_says_is_not_read() -> None:
    whole = tensor(torch.ones(6, 12, dtype=torch.bool))
    assert read_mask(whole).count == 72
    short = repacked(whole, lambda name, content: content[:3] if name.endswith("/data/0") else content)
    # What stands behind these three bytes in memory is nobody's mask.
    with pytest.raises(MaskError, match="broken"):
        read_mask(short)
    with pytest.raises(MaskError, match="broken"):
        read_mask(repacked(whole, lambda name, content: None if name.endswith("/data/0") else content))


def test_content_that_is_compressed_is_not_unpacked() -> None:
    whole = tensor(torch.ones(6, 12, dtype=torch.bool))
    swollen = repacked(
        whole, lambda name, content: bytes(20 << 20) if name.endswith("/data/0") else content, zipfile.ZIP_DEFLATED
    )
    assert len(swollen) < 1 << 20
    with pytest.raises(MaskError, match="broken"):
        read_mask(swollen)


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(6, 12).to_sparse(),
        [torch.ones(6, 12)],
        {"keep": torch.ones(6, 12)},
        torch.nn.Parameter(torch.ones(6, 12)),
        7,
    ],
)
def test_a_pytorch_file_of_anything_but_one_plain_tensor_is_refused(value: object) -> None:
    with pytest.raises(MaskError):
        read_mask(tensor(value))


def test_a_part_of_a_larger_tensor_is_a_mask_still() -> None:
    keep = torch.tensor(np.arange(8 * 20).reshape(8, 20) % 3 == 0)
    np.testing.assert_array_equal(read_mask(tensor(keep[1:7, 4:16])).keep, keep[1:7, 4:16].numpy())
    np.testing.assert_array_equal(read_mask(tensor(keep.T)).keep, keep.T.numpy())
