"""The files of a model: which they are, whether they are whole, what their headers say; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from cahp.values import ModelError

WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file of a model's folder holds.

    Raises:
        ModelError: If it is not there or holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} has no {path.name}; name a folder saved by `save_pretrained`") from None
    except (OSError, ValueError):
        raise ModelError(f"{path} is not readable JSON; save the model again with `save_pretrained`") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds no configuration; save the model again with `save_pretrained`")
    return content


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


def parameters(weights: list[Path]) -> int | None:
    """Number of weights by the safetensors headers; refuses truncated files before anything is loaded."""
    total = 0
    for path in weights:
        size = path.stat().st_size
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > size:
                    raise ValueError("header longer than the file")  # noqa: TRY301
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            if 8 + length + end != size:
                raise ValueError("data shorter than the header says")  # noqa: TRY301
            for entry in header.values():
                count = 1
                for side in entry["shape"]:
                    count *= side
                total += count
        except (ValueError, KeyError, TypeError, AttributeError, struct.error):
            raise ModelError(f"{path} is not a whole safetensors file; download or save the model again") from None
    return total
