"""Whatever a file holds, opening it ends soon: in what it is, or in one sentence.

Files of every kind that people bring are changed at random and opened by a child process that has two gigabytes (see
``opening.py``, which says what a file may cost). By default this takes half a minute and tries the same files each
time. For an hour of new ones:

    CAHP_FUZZ_SECONDS=3600 .venv/bin/pytest -n 0 -m nightly tests/unit/test_fuzz.py
"""

import io
import json
import os
import random
import shutil
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comparisons
import fakes
import numpy as np
import opening
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings, strategies as st

from cahp.exports.masks import MaskOrigin, mask_array, mask_json, mask_tensor
from cahp.files import json_text
from cahp.values import HeadMask

_SECONDS = float(os.environ.get("CAHP_FUZZ_SECONDS", "0"))

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured as Linux tells it"),
    pytest.mark.timeout(0 if _SECONDS else 600),
]

#: What no example is larger than.
_LARGEST = 4 << 20

#: Pieces that mean something somewhere.
_PIECES = [
    *(b'"', b'""', b",", b"\t", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"[", b"]", b"{", b"}"),
    *(b'{"a":', b"[[", b"null", b"NaN", b"1e999", b"-1", b"9" * 30, b"9" * 5000, b'"\\ud800"', b"=1", b"~", b"a", b" "),
    *("ä".encode(), "𝔸".encode(), b"\xff\xff\xff\x7f", b"\xff" * 8, b"\0" * 8, b"PK\3\4", b"PAR1", b"\x93NUMPY"),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, -1, 1, 2, 10**3, 10**6, 10**9, 10**18, 10**300, 0.5, 1e308, float("nan"), float("inf")])
    | st.text(max_size=8)
    | st.sampled_from(["x" * 100_000, "~nobody/x", "../x", "/dev/zero", "**b**", "0", "none"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def bytes_like(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """One of the files, with stretches cut out, replaced, or filled with a piece that is repeated."""
    content = draw(st.sampled_from(wholes))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        cut = draw(st.sampled_from([0, 0, 1, 2, 8, 100, len(content)]))
        new = draw(st.sampled_from(_PIECES) | st.binary(max_size=8))
        new *= draw(st.sampled_from([0, 1, 1, 1, 2, 3, 1000, 30_000]))
        content = content[:at] + new + content[at + cut :]
    return content[:_LARGEST]


@st.composite
def json_like(draw: st.DrawFn, wholes: list[str]) -> bytes:
    """One of the JSON files, with values anywhere in it replaced, removed or nested."""
    said: Any = json.loads(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = None
        inside = said
        steps = draw(st.integers(1, 7))
        while steps and isinstance(inside, (dict, list)) and inside:
            place = inside
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            inside = place[key]
            steps -= 1
        if place is None:
            break
        what = draw(st.sampled_from(["value", "remove", "again"]))
        if what == "value":
            place[key] = draw(json_values)
        elif what == "remove":
            del place[key]
        elif isinstance(place, list):
            place += [inside] * draw(st.sampled_from([1, 10, 3000]))
        else:
            place[draw(st.text(max_size=5))] = inside
    return json.dumps(said).encode()[:_LARGEST]


@st.composite
def tables_like(draw: st.DrawFn, delimiter: str) -> bytes:
    """A table, more or less, out of cells that readers stumble over."""
    cells = ["", "a", "b", '"', '""', '"a"', '"a""b"', "a\rb", "1.0", "1e400", "\x0b", "ä"]
    cell = st.sampled_from([*cells, "9" * 5000, "x" * 140_000, '"' * 5001])
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    header = delimiter.join(["text", "label", *draw(st.lists(cell, max_size=2))])
    rows = draw(st.lists(st.lists(cell, min_size=1, max_size=4), max_size=6))
    block = "".join(end + delimiter.join(row) for row in rows)
    # Before it is made: a block may be a megabyte.
    times = min(draw(st.sampled_from([1, 1, 50, 20_000])), _LARGEST // max(1, len(block)) + 1)
    return (header + block * times).encode()[:_LARGEST]


def _parquet_files() -> list[bytes]:
    texts, labels = [f"text {index}" for index in range(40)], [0, 1] * 20
    long = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 2000, pa.int32()), ["x" * 100_000, "y"])
    plain = pa.table({"text": texts, "label": labels})
    tables: list[tuple[Any, dict[str, Any]]] = [
        (plain, {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 7}),
        (plain, {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}),
        (pa.table({"text": long, "label": [0, 1] * 2000}), {"compression": "gzip"}),
        (pa.table({"text": [["a"]] * 4, "label": [None, b"b", b"c", b"d"]}), {}),
    ]
    files = []
    for table, options in tables:
        out = io.BytesIO()
        pq.write_table(table, out, **options)
        files.append(out.getvalue())
    return files


def _mask_files() -> list[bytes]:
    mask = HeadMask(np.arange(72).reshape(6, 12) % 3 == 0)
    tensor = io.BytesIO()
    torch.save(torch.zeros(1, 1, dtype=torch.bool).expand(6, 12), tensor)
    document = json_text(json.loads(mask_json(mask, MaskOrigin("m", "cahp", 24, {})))).encode()
    return [document, mask_array(mask), mask_tensor(mask), tensor.getvalue(), b'{"0": [1], "1": [2, 0]}']


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sound models by family."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: fakes.save_model(folder / kind, kind) for kind in ("bert", "gpt2", "albert", "deberta-v2", "bart")}


def fuzz(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], *, examples: int) -> None:
    """Try files: some, the same each time; or new ones for a tenth of the time that the environment says."""
    end = time.monotonic() + _SECONDS / (len(FILES) + len(CHANGES))
    number = random.SystemRandom().getrandbits(32) if _SECONDS else 0
    new = bool(_SECONDS)
    quiet = list(HealthCheck)
    asked = settings(max_examples=examples, derandomize=not new, database=None, suppress_health_check=quiet)
    while True:
        tried = given(strategy)(lambda example: check(example))
        asked(seed(number)(tried) if new else tried)()
        number += 1
        if time.monotonic() >= end:
            return


WHOLE = json_text(comparisons.varied().as_json())
#: What is changed, by file: how it is opened, and the contents that are tried.
FILES: dict[str, tuple[tuple[str, ...], Callable[[], st.SearchStrategy[bytes]]]] = {
    "d.csv": (("data", "preview"), lambda: tables_like(",") | bytes_like([b'text,label\n"a ""b""",x\nc,y\n'])),
    "d.tsv": (("data", "preview"), lambda: tables_like("\t") | bytes_like([b'text\tlabel\n"a ""b"""\tx\nc\ty\n'])),
    "d.jsonl": (("data", "preview"), lambda: bytes_like([b'{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n'])),
    "d.parquet": (("data", "preview"), lambda: bytes_like(_parquet_files())),
    "mask": (
        ("mask",),
        lambda: bytes_like(_mask_files()) | json_like([_mask_files()[0].decode(), _mask_files()[-1].decode()]),
    ),
    "compare.json": (("comparison",), lambda: bytes_like([WHOLE.encode()]) | json_like([WHOLE])),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_does_no_harm(tmp_path: Path, name: str) -> None:
    kinds, contents = FILES[name]

    def check(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        for kind in kinds:
            opening.refusal(kind, tmp_path / name)

    fuzz(contents(), check, examples=50)


def _header_like(folder: Path) -> st.SearchStrategy[bytes]:
    """The weights under another header."""
    whole = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])

    def under(header: bytes) -> bytes:
        return struct.pack("<Q", len(header)) + header + whole[8 + length :]

    return json_like([whole[8 : 8 + length].decode()]).map(under) | bytes_like([whole])


CHANGES: dict[str, Callable[[Path], st.SearchStrategy[bytes]]] = {
    "config.json": lambda folder: json_like([(folder / "config.json").read_text()]),
    "tokenizer.json": lambda folder: (
        json_like([(folder / "tokenizer.json").read_text()]) | bytes_like([(folder / "tokenizer.json").read_bytes()])
    ),
    "tokenizer_config.json": lambda folder: json_like([(folder / "tokenizer_config.json").read_text()]),
    "model.safetensors": _header_like,
}


@pytest.mark.parametrize("file", CHANGES)
def test_a_model_of_which_a_file_was_changed_does_no_harm(sound: dict[str, Path], tmp_path: Path, file: str) -> None:
    def check(example: tuple[Path, bytes]) -> None:
        folder, content = example
        place = tmp_path / folder.name
        if not place.exists():
            shutil.copytree(folder, place)
        (place / file).write_bytes(content)
        opening.refusal("model", place)

    contents = st.one_of(*(st.tuples(st.just(folder), CHANGES[file](folder)) for folder in sound.values()))
    fuzz(contents, check, examples=25)
