"""Cut heads from a quantised GGUF file without unpacking what stays: kept blocks are equal, byte for byte.

In such a file the rows of queries, keys and values are whole heads, and blocks of 32 numbers lie along a row, so that
the columns of a head in the output projection are whole blocks, too, if their number is a multiple of 32. Larger blocks
(those of 256 numbers) may hold several heads: a matrix that is cut through them, or that a recovery changed, is
quantised anew, in its own type where the ``gguf`` library can write it, and otherwise in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.models.cards import ModelCard
from cahp.models.to_gguf import list_tensors, name_architecture, turns_channels
from cahp.values import HeadMask

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: Keys of the source that describe the file and not the model.
_OF_FILE = ("GGUF.", "general.architecture", "general.alignment", "split.")
#: The base of rotary positions where a file does not state it.
_FREQUENCY_BASE = 10_000.0
#: Architectures whose files store the channels of a head as two halves, the one after the other.
_STORED_HALVES = ("qwen2", "qwen3")


@dataclass(frozen=True)
class Requantised:
    """How many tensors of a written file equal those of its source, and the others by type: ``{"Q8_0": 30}``."""

    kept: int
    anew: dict[str, int]


def refuse_surgery(card: ModelCard) -> str | None:
    """Return why no quantised file can be cut, as a clause (None: one can)."""
    if card.source is None or Path(card.source).suffix != ".gguf":
        return "its source is not a GGUF file, whose types would be kept"
    return None


def save_cut(file: Path, pruned: HeadModel, mask: HeadMask) -> Requantised:
    """Cut the heads that ``mask`` drops from the file that ``pruned`` was read from, and save the rest.

    ``pruned`` is the model in memory, cut to ``mask``: what a recovery changed in it is quantised anew.
    """
    import gguf

    assert pruned.card.source is not None
    reader = gguf.GGUFReader(pruned.card.source)
    before = _read_text(reader, "general.architecture")
    after = name_architecture(pruned.card, mask)
    writer = gguf.GGUFWriter(file, after)
    _copy_metadata(reader, writer, mask, before=before, after=after, group=pruned.card.group)
    wanted = dict(list_tensors(pruned, mask, architecture=after))
    # The channels of queries and keys, where the two architectures store them in another order.
    turned = 0
    if before in _STORED_HALVES and turns_channels(pruned.card, after):
        turned = pruned.card.head_size // pruned.card.group
    kept = 0
    anew: dict[str, int] = {}
    for name, raw, kind in _cut_tensors(reader, mask, wanted, turned=turned):
        if raw is None:
            made, kind = _quantise(wanted[name], kind)
            anew[kind.name] = anew.get(kind.name, 0) + 1
        else:
            made = raw
            kept += 1
        writer.add_tensor(name, made, raw_shape=made.shape, raw_dtype=kind)
    present = {tensor.name for tensor in reader.tensors}
    for name, values in wanted.items():
        if name not in present:
            # Such as a bias that a recovery added.
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Requantised(kept, anew)


def _read_text(reader: Any, key: str) -> str:
    return str(reader.fields[key].contents())


def _copy_metadata(reader: Any, writer: Any, mask: HeadMask, *, before: str, after: str, group: int) -> None:
    """Copy what the source says of the model, with the numbers of heads that are left."""
    import gguf

    units: Any = mask.counts[0]
    heads: Any = units * group
    if len(set(mask.counts)) > 1:
        units = list(mask.counts)
        heads = [count * group for count in units]
    counts = {f"{before}.attention.head_count": heads, f"{before}.attention.head_count_kv": units}
    for field in reader.fields.values():
        if field.name.startswith(_OF_FILE):
            continue
        name = field.name
        if name.startswith(f"{before}."):
            name = after + name.removeprefix(before)
        if field.name in counts:
            _add_counts(writer, name, counts[field.name])
            continue
        value = field.contents()
        kind = field.types[0]
        inside = None
        if kind == gguf.GGUFValueType.ARRAY:
            inside = field.types[-1]
        if isinstance(value, list) and not value:
            # The format has no empty lists.
            continue
        writer.add_key_value(name, value, kind, sub_type=inside)
    # What the format lets a file leave out: its defaults, written because readers of the new file look for them.
    if f"{before}.attention.head_count_kv" not in reader.fields:
        _add_counts(writer, f"{after}.attention.head_count_kv", units)
    if f"{before}.rope.freq_base" not in reader.fields:
        writer.add_float32(f"{after}.rope.freq_base", _FREQUENCY_BASE)
    # Old files leave the size of a head to the number of heads, which has changed.
    for name in ("key_length", "value_length"):
        if f"{before}.attention.{name}" not in reader.fields:
            embedding = int(reader.fields[f"{before}.embedding_length"].contents())
            size = embedding // int(reader.fields[f"{before}.attention.head_count"].contents())
            writer.add_uint32(f"{after}.attention.{name}", size)


def _add_counts(writer: Any, name: str, value: int | list[int]) -> None:
    """Write a number for all layers, or one for each."""
    import gguf

    if isinstance(value, list):
        writer.add_key_value(name, value, gguf.GGUFValueType.ARRAY, sub_type=gguf.GGUFValueType.UINT32)
    else:
        writer.add_key_value(name, value, gguf.GGUFValueType.UINT32)


def _cut_tensors(
    reader: Any, mask: HeadMask, wanted: dict[str, NDArray[np.float32]], *, turned: int
) -> Iterator[tuple[str, NDArray[Any] | None, Any]]:
    """Yield each tensor that stays: its name, the bytes of what is kept, and its type.

    The bytes are None where what is kept is not whole blocks, or does not mean the weights ``wanted`` by name. The two
    halves of ``turned`` channels of each head (0: none) are stored alternately then.
    """
    from gguf.quants import dequantize

    for tensor in reader.tensors:
        name = tensor.name
        if name.startswith("blk.") and name not in wanted:
            # The attention of a layer that keeps no head.
            continue
        raw: NDArray[Any] | None = np.asarray(tensor.data)
        assert raw is not None
        if name.startswith("blk."):
            raw = _cut(raw, name, tensor, mask, turned)
        if raw is not None and name in wanted:
            values = np.asarray(dequantize(raw, tensor.tensor_type), dtype=np.float32)
            if values.shape != wanted[name].shape or not np.array_equal(values, wanted[name]):
                raw = None
        yield name, raw, tensor.tensor_type


def _cut(raw: NDArray[Any], name: str, tensor: Any, mask: HeadMask, turned: int) -> NDArray[Any] | None:
    """Return the stored rows or blocks of the heads that stay (None: they are not whole blocks)."""
    _, place, part, *_ = name.split(".")
    keep = mask.keep[int(place)]
    if part in ("attn_q", "attn_k", "attn_v"):
        left = raw[np.repeat(keep, len(raw) // len(keep))]
        if turned and part != "attn_v":
            left = left.reshape(-1, 2, turned // 2, *left.shape[1:]).swapaxes(1, 2).reshape(left.shape)
        return np.ascontiguousarray(left)
    if part == "attn_output" and name.endswith(".weight"):
        columns = int(tensor.shape[0])
        stored = raw.shape[-1]
        # A block is stored in so many entries of a row, and holds so many columns.
        if stored % len(keep) or not _are_whole_blocks(tensor, columns // len(keep)):
            return None
        return np.ascontiguousarray(raw[:, np.repeat(keep, stored // len(keep))])
    return raw


def _are_whole_blocks(tensor: Any, columns: int) -> bool:
    import gguf

    block, _ = gguf.GGML_QUANT_SIZES[tensor.tensor_type]
    return columns % block == 0


def _quantise(values: NDArray[np.float32], kind: Any) -> tuple[NDArray[Any], Any]:
    """Quantise in a type, or in 8 bits where the library cannot write that, or in float where rows are too short."""
    import gguf
    from gguf.quants import QuantError, quantize

    for candidate in (kind, gguf.GGMLQuantizationType.Q8_0):
        try:
            return quantize(values, candidate), candidate
        except (NotImplementedError, QuantError):
            continue
    return values, gguf.GGMLQuantizationType.F32


def describe(made: Requantised) -> str:
    """Say what became of the tensors, in a sentence."""
    if not made.anew:
        return f"all {made.kept} tensors equal those of the source, block by block"
    kinds = ", ".join(f"{count} as {kind}" for kind, count in sorted(made.anew.items()))
    return f"{made.kept} tensors equal those of the source, block by block; quantised anew: {kinds}"
