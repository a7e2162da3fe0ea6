"""What ``save_to_disk`` left in a folder, looked at before the datasets library reads it.

The library maps Arrow files into memory, where they cost nothing, unless their content is compressed: then it unpacks
all of it, however much that is. It writes no such files, and it believes the names of files that the folder lists.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cahp.data.table import first_line
from cahp.values import DataError

LISTING, STATE = "dataset_dict.json", "state.json"
#: Both list some files.
_LARGEST_JSON = 4 << 20
#: Of the table ``RecordBatch`` in Arrow's Message.fbs, the field that says how its content is compressed.
_COMPRESSION = 3
#: The kind of a message that holds a table ``RecordBatch`` in its second field.
_DICTIONARY = 2


def check_saved(path: Path) -> None:
    """Refuse a saved data set that reaches out of its folder, or would be unpacked.

    Raises:
        DataError: If it does, or is damaged.
    """
    try:
        files = [file for folder in _folders(path) for file in _files(folder)]
        packed = [file for file in files if any(map(_is_compressed, _record_batches(file)))]
    except Exception as error:  # damaged files provoke anything
        raise DataError(f"{path} is not a whole saved data set ({first_line(error)}); save it again.") from error
    if packed:
        raise DataError(f"{packed[0]} is compressed, as save_to_disk writes no file; save the data again.")


def _folders(path: Path) -> Iterator[Path]:
    if not (path / LISTING).is_file():
        yield path
        return
    for split in _json(path / LISTING)["splits"]:
        yield path / _inside(split)


def _files(folder: Path) -> Iterator[Path]:
    for one in _json(folder / STATE)["_data_files"]:
        yield folder / _inside(one["filename"])


def _json(path: Path) -> Any:
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path.name} is too large")
    return json.loads(path.read_text(encoding="utf-8"))


def _inside(name: Any) -> str:
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise ValueError(f"{str(name)[:60]!r} is no name of a file in it")
    return name


def _record_batches(file: Path) -> Iterator[bytes]:
    """The headers of a file's messages (flatbuffers), whose content is not touched."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        for message in pa.ipc.MessageReader.open_stream(source):
            if message.type in ("record batch", "dictionary"):
                yield message.metadata.to_pybytes()


def _is_compressed(message: bytes) -> bool:
    root = _follow(message, 0)
    kind, header = message[_field(message, root, 1)], _follow(message, _field(message, root, 2))
    if kind == _DICTIONARY:
        header = _follow(message, _field(message, header, 1))
    return _field(message, header, _COMPRESSION) != 0


def _follow(message: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", message, at)[0])


def _field(message: bytes, table: int, number: int) -> int:
    """Where a table's field lies, or 0 if it has none."""
    vtable = table - struct.unpack_from("<i", message, table)[0]
    (size,) = struct.unpack_from("<H", message, vtable)
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", message, vtable + place)[0] if place < size else 0
    return table + offset if offset else 0
