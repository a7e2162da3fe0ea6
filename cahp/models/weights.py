"""The files of a model: their names, whether they are whole, and their headers; no weights are loaded."""

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open

from cahp.files import read_bounded_json
from cahp.store import Store, key
from cahp.values import JsonObject, ModelError

#: A file that changed so recently may change again without another time.
_SETTLED_NS = 2_000_000_000
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER = "adapter_model.safetensors"
#: Files of tokenizers, of which a model has some.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "bpe.codes",
)
#: Other files that change answers: settings of the tokenizer.
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")

#: A configuration takes kilobytes, an index some hundred bytes a tensor; parsed JSON may take thirty times as much
#: memory.
LARGEST_JSON = 4 << 20
Shape = tuple[int, ...]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack")


def read_json(path: Path) -> JsonObject:
    """Read a JSON file in a model's folder.

    Raises:
        ModelError: If it is missing, or holds no object.
    """
    entries = None
    try:
        with suppress(ValueError):
            entries = read_bounded_json(path, LARGEST_JSON)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}); name a folder saved by `save_pretrained`, or a GGUF file"
        ) from None
    if not isinstance(entries, dict):
        raise ModelError(
            f"{path} holds no readable JSON object of at most {LARGEST_JSON:,} bytes; save the model again with "
            "`save_pretrained`"
        )
    return entries


def state_rotation(folder: Path) -> None:
    """State rotary positions of one kind also by the names that they had before transformers 5.

    MLX reads the old names of most types only, and takes its defaults without them.
    """
    config = read_json(folder / CONFIG)
    rotation = config.get("rope_parameters") or {}
    if "rope_theta" in rotation:
        named = {"rope_theta": rotation["rope_theta"]}
        if rotation.get("rope_type", "default") != "default":
            named["rope_scaling"] = {name: value for name, value in rotation.items() if name != "rope_theta"}
        (folder / CONFIG).write_text(json.dumps({**config, **named}, indent=2) + "\n", encoding="utf-8")


def list_weight_files(name: str, present: Collection[str], read_index: Callable[[], list[str]]) -> list[str]:
    """The safetensors files of the model ``name`` among its files ``present``: one, or those of its index.

    Raises:
        ModelError: If there are none, or some that are listed are missing; if there is no tokenizer, or an adapter.
    """
    files = [WEIGHTS]
    if INDEX in present and WEIGHTS not in present:
        # In the order of transformers: one file, and only without it several.
        files = read_index()
    if ADAPTER_CONFIG in present:
        # transformers would load it by itself, then check neither the model's own weights nor write both of them again.
        raise ModelError(
            f"{name} has an adapter beside its weights; merge it into the model and save that, or remove "
            f"{ADAPTER_CONFIG}"
        )
    if not any(file in present for file in TOKENIZER_FILES):
        raise ModelError(
            f"{name} has no tokenizer; save it beside the weights with `tokenizer.save_pretrained(folder)`"
        )
    missing = [file for file in files if file not in present]
    if not missing:
        return files
    if any(Path(file).suffix in _PICKLES for file in present):
        raise ModelError(
            f"{name} has only pickled weights, and loading a pickle can run any code; convert it with "
            "`model.save_pretrained(folder)`, which writes safetensors"
        )
    if "model.onnx" in present and INDEX not in present:
        raise ModelError(
            f"{name} holds an ONNX model, which other programs run; name the original model, with its "
            "head_mask.json, if there is one, as --mask"
        )
    raise ModelError(
        f"{name} lacks its weights ({', '.join(missing)}); save it with "
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
    shards = set[str]()
    if isinstance(listed, dict):
        shards = {str(shard) for shard in listed.values()}
    # Only plain names: an index must not reach outside its folder.
    if not shards or any(Path(shard).name != shard for shard in shards):
        raise ModelError(f"{index} does not list files of its folder; save the model again")
    return sorted(shards)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, which is remembered as long as the file does not change.

    Raises:
        ModelError: If it cannot be read.
    """
    path = path.resolve()
    store = Store()
    try:
        status = path.stat()
        name = key("file", 1, str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        known = store.read(name, lambda entry: str(entry.meta["sha256"]))
        if known is not None:
            return known
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its path and permissions") from None
    if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
        store.save(name, meta={"sha256": content})
    return content


def read_shapes(files: Iterable[Path]) -> tuple[dict[str, Shape], dict[str, int]]:
    """Read the headers of safetensors files; nothing else of them is loaded.

    Returns the shape of each weight, and the number of weights of each type, such as ``BF16``.

    Raises:
        ModelError: If a file is not whole, or its content is not exactly what its header says.
    """
    shapes: dict[str, Shape] = {}
    types = Counter[str]()
    for path in files:
        try:
            with safe_open(path, "numpy") as file:
                for name in file.keys():  # noqa: SIM118
                    part = file.get_slice(name)
                    shapes[name] = tuple(part.get_shape())
                    types[part.get_dtype()] += math.prod(shapes[name])
        except SafetensorError:
            raise ModelError(f"{path} is not a whole safetensors file; download or save the model again") from None
    return shapes, dict(types)


def count_weights(shapes: Mapping[str, Shape]) -> int:
    """The number of weights of all ``shapes``."""
    return sum(map(math.prod, shapes.values()))
