"""The files of a model: which they are, whether they are whole, what their headers say; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from cahp.values import ModelError

WEIGHTS = "model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_INDEX = "model.safetensors.index.json"
#: Configurations take kilobytes, an index or a header some hundred bytes a tensor; in memory JSON may become thirty
#: times as large.
_LARGEST_JSON = 4 << 20
#: Bytes of a number, by what safetensors calls its type.
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a model's folder holds.

    Raises:
        ModelError: If it is not there or holds no object.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_JSON + 1)
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}; name a folder saved by `save_pretrained`") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
    if len(content) > _LARGEST_JSON:
        raise ModelError(f"{path} is too large for a configuration; save the model again with `save_pretrained`")
    try:
        said = json.loads(content.decode())
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not readable JSON; save the model again with `save_pretrained`") from None
    if not isinstance(said, dict):
        raise ModelError(f"{path} holds no configuration; save the model again with `save_pretrained`")
    return said


def weight_files(name: str, folder: Path, *, from_hub: bool) -> list[Path]:
    """The safetensors files of the model ``name`` in ``folder``.

    Raises:
        ModelError: If there are none, or some that are listed are missing.
    """
    if (folder / _INDEX).is_file():
        listed = read_json(folder / _INDEX).get("weight_map")
        shards = {str(shard) for shard in listed.values()} if isinstance(listed, dict) else set()
        # Only plain names: an index must not reach outside its folder.
        if not shards or any(Path(shard).name != shard for shard in shards):
            raise ModelError(f"{folder / _INDEX} does not list files of its folder; save the model again")
        weights = [folder / shard for shard in sorted(shards)]
    else:
        weights = [folder / WEIGHTS]
    missing = [path.name for path in weights if not path.is_file()]
    if not missing and weights:
        return weights
    if any(path.suffix in _PICKLES for path in folder.iterdir()):
        raise ModelError(
            f"{name} has only pickled weights, and loading a pickle can run any code; convert it with "
            "`model.save_pretrained(folder)`, which writes safetensors"
        )
    if from_hub:
        # Pickled weights were not downloaded, so whether there are any is not known.
        raise ModelError(
            f"{name} has no weights as safetensors on the hub, and pickled ones are refused since loading them can run "
            "any code; name a revision or another model that has them"
        )
    raise ModelError(f"{name} has no {', '.join(missing)}; save it with `model.save_pretrained(folder)`")


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


def parameters(weights: list[Path]) -> int:
    """Number of weights by the safetensors headers; refuses truncated files before anything is loaded.

    Raises:
        ModelError: If a file is not whole, or its content is not exactly what its header says.
    """
    return sum(map(_parameters, weights))


def _parameters(path: Path) -> int:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, _LARGEST_JSON):
                raise ValueError("header longer than the file")  # noqa: TRY301
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = total = 0
        for begin, stop, count, each in sorted(map(_claim, header.values())):
            # Without gaps or overlaps, and as long as its shape: nothing in memory is larger than in the file.
            if begin != end or stop - begin != count * each:
                raise ValueError("data of another size than the header says")  # noqa: TRY301
            end, total = stop, total + count
        if 8 + length + end != size:
            raise ValueError("data shorter than the header says")  # noqa: TRY301
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error):
        raise ModelError(f"{path} is not a whole safetensors file; download or save the model again") from None
    return total


def _claim(entry: dict[str, Any]) -> tuple[int, int, int, int]:
    """Where a tensor begins and ends in the file, how many numbers it has, and the bytes of each."""
    begin, stop = entry["data_offsets"]
    count = 1
    if any(type(size) is not int or size < 0 for size in (begin, stop, *entry["shape"])):
        raise ValueError("a size that is none")
    for side in entry["shape"]:
        count *= side
    return begin, stop, count, _BYTES[entry["dtype"]]
