"""Files of head masks: ``head_mask.json`` of the schema ``cahp.mask/1``, and formats of other tools."""

import io
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cahp.files import array_header, csv_text, json_text
from cahp.values import Array, HeadMask, Ints, JsonObject, MaskError

MASK_SCHEMA = "cahp.mask/1"

#: The suffixes of the files that ``read_mask`` reads.
MASK_SUFFIXES = ("json", "npy", "pt", "csv", "tsv")
_NEXT_STEP = "choose a head_mask.json, head_mask.npy or head_mask.pt"

#: The first bytes of a file of ``torch.save``, which is a ZIP file.
_TORCH_PREFIX = b"PK\x03\x04"

#: No model has more: 1,000 layers of 128 heads.
_MOST_HEADS = 128_000


class _Record(msgspec.Struct):
    """The fields of a ``head_mask.json`` that make its mask."""

    schema: Literal["cahp.mask/1"]
    heads_per_layer: Annotated[int, msgspec.Meta(ge=1)]
    keep: list[list[Literal[0, 1]]]
    sha256: str


#: Twice the size of a mask of so many heads; a larger file is no mask.
_LARGEST_MASK_FILE = 1 << 20


@dataclass(frozen=True, eq=False)
class MaskOrigin:
    """The origin of a mask: its model, the method that chose it, its budget and its results.

    ``columns`` are further columns of the CSV file, with a value for each head. ``model_sha256`` is the digest of the
    model's files, ``ModelCard.origin`` (None: not known).
    """

    model: str
    method: str
    budget: object
    metrics: object = field(default_factory=dict)
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)
    model_sha256: str | None = None


def mask_json(mask: HeadMask, origin: MaskOrigin) -> bytes:
    """Return ``head_mask.json``, its keys in the order of the schema."""
    content = {
        "schema": MASK_SCHEMA,
        "model": origin.model,
        "heads_per_layer": mask.heads,
        "keep": mask.keep.astype(int).tolist(),
        "method": origin.method,
        "budget": origin.budget,
        "metrics": origin.metrics,
        "sha256": mask.sha256,
        "model_sha256": origin.model_sha256,
    }
    return json_text(content).encode()


def read_mask(source: Path | str | bytes, *, layers: int | None = None, heads: int | None = None) -> HeadMask:
    """Read a head mask from a file.

    ``source`` is the path of a file, or its content as bytes, in one of six formats: ``head_mask.json``; a table of
    ``mask_csv`` or ``mask_pattern``; a NumPy array or a PyTorch tensor of shape (layers, heads), True or 1 for a kept
    head; or the older ``heads_to_prune``, JSON such as ``{"0": [1, 2]}`` that lists the *pruned* heads of some layers
    and needs ``layers`` and ``heads``, the numbers of the model.

    Raises:
        MaskError: If the file cannot be read or is malformed. ``HeadMask.check_fits`` checks whether it fits a model.
    """
    data = read_mask_bytes(source)
    if data.startswith((np.lib.format.MAGIC_PREFIX, _TORCH_PREFIX)):
        return HeadMask(_checked(_read_array(data)))
    lines = data.decode(errors="replace").splitlines()
    if lines and ("\t" in lines[0] or lines[0].startswith("layer,head,kept")):
        return HeadMask(_checked(_read_table(lines)))
    record = read_mask_record(data)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise MaskError(f"This is neither JSON nor an array; {_NEXT_STEP}.") from None
    if not isinstance(content, dict) or not content:
        raise MaskError(f"This JSON holds no head mask; {_NEXT_STEP}.")
    if record:
        return HeadMask(np.array(record["keep"], dtype=np.bool_))
    if layers is None or heads is None:
        raise MaskError("A list of pruned heads does not contain the number of heads; name its model.")
    keep = np.ones((layers, heads), dtype=np.bool_)
    for layer, pruned in content.items():
        if not re.fullmatch("[0-9]{1,6}", layer) or not isinstance(pruned, list):
            raise MaskError(f"This JSON lists neither kept heads nor the pruned heads of layers; {_NEXT_STEP}.")
        for head in pruned:
            if type(head) is not int or not 0 <= head < heads or int(layer) >= layers:
                raise MaskError(
                    f"Layer {layer} lists a pruned head but the model has {layers} layers of {heads} heads; "
                    "choose a list that was made for this model."
                )
            keep[int(layer), head] = False
    return HeadMask(keep)


def read_mask_record(source: Path | str | bytes) -> JsonObject:
    """Read what a ``head_mask.json`` tells: its fields, such as model, method and metrics, by name.

    ``source`` is the path of a file, or its content as bytes. A file of another format tells nothing: ``{}``.

    Raises:
        MaskError: If the file cannot be read, or is a malformed ``head_mask.json``.
    """
    data = read_mask_bytes(source)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or not {"schema", "keep"} & content.keys():
        return {}
    try:
        record = msgspec.convert(content, _Record)
    except (msgspec.ValidationError, RecursionError) as error:
        raise MaskError(f"This head mask is malformed ({error}); export the mask again.") from None
    if not record.keep or any(len(row) != record.heads_per_layer for row in record.keep):
        raise MaskError("Every row of `keep` must have `heads_per_layer` values; export the mask again.")
    if record.sha256 != HeadMask(np.array(record.keep, dtype=np.bool_)).sha256:
        raise MaskError("`keep` does not match `sha256`: it was changed by hand; export the mask again.")
    return content


def read_mask_bytes(source: Path | str | bytes) -> bytes:
    """Return the content of a file of a mask, or of that in the folder of a run; bytes are the content itself.

    Raises:
        MaskError: If the file cannot be read, or is too large for a mask.
    """
    if isinstance(source, bytes):
        data = source
    else:
        place = Path(source)
        try:
            if place.is_dir():
                place /= "head_mask.json"
            with place.open("rb") as file:
                data = file.read(_LARGEST_MASK_FILE + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MaskError(f"{str(source)[:200]} cannot be read ({reason}); {_NEXT_STEP}.") from error
    if len(data) > _LARGEST_MASK_FILE:
        raise MaskError(f"This file is too large for a head mask; {_NEXT_STEP}.")
    return data


def _read_table(lines: Sequence[str]) -> Ints:
    """Read the 0 and 1 of each layer from a table of ``mask_csv`` or ``mask_pattern``."""
    try:
        if not lines[0].startswith("layer"):
            return np.array([line.split("\t") for line in lines], dtype=np.int64)
        cells = np.array([line.split(",")[:3] for line in lines[1:]], dtype=np.int64)
        rows = cells[:, 2].reshape(len({*cells[:, 0]}), -1)
    except (IndexError, OverflowError, ValueError):
        cells = rows = np.zeros((0, 3), dtype=np.int64)
    # The rows are one for each head, in their order.
    if not rows.size or not np.array_equal(cells[:, :2], [*np.ndindex(rows.shape)]):
        raise MaskError(f"This table does not list the heads of all layers in their order; {_NEXT_STEP}.")
    return rows


def mask_to_hex(mask: HeadMask) -> str:
    """Encode a mask for an address: its bits, four per digit."""
    return np.packbits(mask.keep.ravel()).tobytes().hex()


def mask_from_hex(text: str, layers: int, heads: int) -> HeadMask:
    """Decode a mask of ``mask_to_hex``.

    Raises:
        MaskError: If it has another number of heads.
    """
    try:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    except ValueError:
        bits = np.zeros(0, dtype=np.uint8)
    total = layers * heads
    if len(bits) != -(-total // 8) * 8 or bits[total:].any():
        raise MaskError(
            f"The mask in this link does not fit this model of {layers} x {heads} heads. Open the model of the link."
        )
    return HeadMask(bits[:total].astype(np.bool_).reshape(layers, heads))


def kept_heads(mask: HeadMask | None) -> dict[str, int] | None:
    """Return the number of kept heads and of all heads for JSON; None without a mask."""
    if mask is None:
        return None
    return {"heads": mask.count, "of": mask.keep.size}


def heads_to_prune_json(mask: HeadMask) -> bytes:
    """Return the *pruned* heads of each layer that has some, as older releases of transformers expect them."""
    removed = {str(layer): [int(head) for head in np.flatnonzero(~row)] for layer, row in enumerate(mask.keep)}
    return json_text({layer: heads for layer, heads in removed.items() if heads}).encode()


def mask_csv(mask: HeadMask, origin: MaskOrigin) -> bytes:
    """Return one row per head: layer, head, kept (0 or 1), and the columns of its origin."""
    layers, heads = np.indices(mask.keep.shape).reshape(2, -1)
    rows = zip(layers, heads, mask.keep.ravel().astype(int), *origin.columns.values(), strict=True)
    return csv_text(("layer", "head", "kept", *origin.columns), rows).encode()


def mask_pattern(mask: HeadMask) -> bytes:
    """Return a row of 1 (kept) and 0 per layer, tabs between them, as DuoAttention reads its patterns of heads."""
    return "".join("\t".join(f"{kept:d}" for kept in row) + "\n" for row in mask.keep).encode()


def mask_tensor(mask: HeadMask) -> bytes:
    """Return a PyTorch file of a bool tensor ``(L, H)``; ``torch.load(..., weights_only=True)`` reads it."""
    import torch

    file = io.BytesIO()
    torch.save(torch.tensor(mask.keep), file)
    return file.getvalue()


def mask_array(mask: HeadMask) -> bytes:
    """Return a NumPy file of a bool array ``(L, H)``."""
    file = io.BytesIO()
    np.save(file, mask.keep, allow_pickle=False)
    return file.getvalue()


def _read_array(data: bytes) -> Array:
    """Read an array of NumPy, or a tensor of PyTorch."""
    try:
        if data.startswith(_TORCH_PREFIX):
            return _read_tensor(data)
        shape, dtype = array_header(io.BytesIO(data))
        if not dtype.hasobject:
            # Before memory is allocated for it.
            _check_shape(shape)
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    except MaskError:
        raise
    except Exception as error:
        # Neither library promises a type here: a broken header raises a dozen different ones.
        raise MaskError(f"This array is broken, or holds Python objects or several arrays; {_NEXT_STEP}.") from error


def _read_tensor(data: bytes) -> Array:
    import torch

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = {entry.filename.lower(): entry.file_size for entry in archive.infolist()}
        # No two entries of one name. PyTorch does not compress its entries; compressed ones may have any size.
        if len(sizes) < len(archive.infolist()) or sum(sizes.values()) > _LARGEST_MASK_FILE:
            raise ValueError("an archive of another kind")
    (stored,) = (size for name, size in sizes.items() if "/data/" in name)
    # Tensors only: nothing in the file can run code. First without its content, since a single number may be expanded
    # to any shape, and PyTorch trusts the length of the content that the file claims.
    sketch = torch.load(io.BytesIO(data), map_location="meta", weights_only=True)
    _check_shape(tuple(sketch.shape))
    if sketch.layout != torch.strided or sketch.untyped_storage().nbytes() > stored:
        raise ValueError("less content than it claims")
    return np.asarray(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True).numpy())


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or 0 in shape:
        raise MaskError(f"A mask has the shape (layers, heads), not {str(shape)[:60]}; {_NEXT_STEP}.")
    if math.prod(shape) > _MOST_HEADS:
        raise MaskError(f"This has {shape[0]} x {shape[1]} values, more than any model has heads; {_NEXT_STEP}.")


def _checked(array: Array) -> NDArray[np.bool_]:
    _check_shape(array.shape)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise MaskError(f"A mask contains only 0 and 1; {_NEXT_STEP}.")
    return np.asarray(array == 1)
