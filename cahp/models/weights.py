"""The files of a model: their names, whether they are whole, and their headers; no weights are loaded."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cahp.values import ModelError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG, ADAPTER = "adapter_config.json", "adapter_model.safetensors"
#: A configuration takes kilobytes, an index or a header some hundred bytes a tensor; parsed JSON may take thirty times
#: as much memory.
LARGEST_JSON = 4 << 20
#: Bytes of a number, by its type in safetensors.
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
Shape = tuple[int, ...]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file in a model's folder.

    Raises:
        ModelError: If it is missing, or holds no object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_JSON + 1)
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}; name a folder saved by `save_pretrained`") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if len(content) > LARGEST_JSON:
        raise ModelError(f"{path} is too large for a configuration; save the model again with `save_pretrained`")
    try:
        entries = json.loads(content.decode())
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise ModelError(f"{path} holds no readable JSON object; save the model again with `save_pretrained`")
    return entries


def list_weight_files(name: str, present: Collection[str], read_index: Callable[[], list[str]]) -> list[str]:
    """The safetensors files of the model ``name`` among its files ``present``: one, or those of its index.

    Raises:
        ModelError: If there are none, or some that are listed are missing.
    """
    # In the order of transformers: one file, and only without it several.
    files = read_index() if INDEX in present and WEIGHTS not in present else [WEIGHTS]
    missing = [file for file in files if file not in present]
    if not missing:
        return files
    if any(Path(file).suffix in _PICKLES for file in present):
        raise ModelError(
            f"{name} has only pickled weights, and loading a pickle can run any code; convert it with "
            "`model.save_pretrained(folder)`, which writes safetensors"
        )
    raise ModelError(
        f"{name} has no {', '.join(missing)}, so no weights as safetensors; save it with "
        "`model.save_pretrained(folder)`, or choose another model or revision"
    )


def weight_files(name: str, folder: Path) -> list[Path]:
    """The safetensors files of the model ``name`` in ``folder``.

    Raises:
        ModelError: As ``list_weight_files``.
    """
    present = [path.name for path in folder.iterdir() if path.is_file()]
    return [folder / file for file in list_weight_files(name, present, lambda: read_index(folder / INDEX))]


def weight_bytes(folder: Path) -> int:
    """Bytes of all safetensors files in ``folder``: what may be built of a configuration is bounded by them."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors") if path.is_file())


def read_index(index: Path) -> list[str]:
    """The weight files that an index lists.

    Raises:
        ModelError: If it lists none, or something else than files beside it.
    """
    listed = read_json(index).get("weight_map")
    shards = {str(shard) for shard in listed.values()} if isinstance(listed, dict) else set()
    # Only plain names: an index must not reach outside its folder.
    if not shards or any(Path(shard).name != shard for shard in shards):
        raise ModelError(f"{index} does not list files of its folder; save the model again")
    return sorted(shards)


def sha256(path: Path) -> str:
    """Digest of a file.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); install or save the model again") from None


def read_shapes(files: Iterable[Path]) -> dict[str, Shape]:
    """Read the shape of each weight from the headers of safetensors files; nothing else of them is loaded.

    Raises:
        ModelError: If a file is not whole, or its content is not exactly what its header says.
    """
    shapes: dict[str, Shape] = {}
    for path in files:
        with path.open("rb") as file:
            size = path.stat().st_size
            try:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length if length <= min(size, LARGEST_JSON) else 0))
                header.pop("__metadata__", None)
            except (ValueError, TypeError, AttributeError, RecursionError, struct.error):
                raise _damaged(str(path)) from None
        shapes |= checked_shapes(str(path), header, size, 8 + length)
    return shapes


def count_weights(shapes: Mapping[str, Shape]) -> int:
    """The number of weights of all ``shapes``."""
    return sum(map(math.prod, shapes.values()))


def checked_shapes(place: str, tensors: Mapping[str, Any], size: int, start: int | None = None) -> dict[str, Shape]:
    """Take the shape of each weight from the header of a safetensors file of ``size`` bytes.

    ``tensors`` maps names to ``dtype``, ``shape`` and ``data_offsets``; the data begin at ``start``, if that is known.

    Raises:
        ModelError: If the content cannot be exactly what the header says.
    """
    found: dict[str, Shape] = {}
    end = 0
    try:
        for begin, stop, name in sorted((*entry["data_offsets"], name) for name, entry in tensors.items()):
            shape = tuple(tensors[name]["shape"])
            whole = all(type(size) is int and size >= 0 for size in (begin, stop, *shape))
            # Without gaps or overlaps, and as long as its shape: nothing in memory is larger than in the file.
            if not whole or begin != end or stop - begin != math.prod(shape) * _BYTES[tensors[name]["dtype"]]:
                raise _damaged(place)
            end, found[name] = stop, shape
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(place) from None
    if end > size if start is None else start + end != size:
        raise _damaged(place)
    return found


def _damaged(place: str) -> ModelError:
    return ModelError(f"{place} is not a whole safetensors file; download or save the model again")
