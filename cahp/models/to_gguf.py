"""Write a pruned language model as a GGUF file, for llama.cpp and the tools that are built on it.

An even model is of Llama's architecture, or of its own. An uneven one is a ``deci`` model: Llama's layers with a list
of their numbers of heads. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cahp.models.cards import EVENLY, ModelCard
from cahp.models.identity import output_head
from cahp.models.weights import CONFIG, read_json
from cahp.values import Array, Fields, Floats32, HeadMask

if TYPE_CHECKING:
    from cahp.models.head_model import HeadModel

#: The architecture of uneven models.
UNEVEN = "deci"
#: The architecture of llama.cpp by the model type of transformers. Its own one of Qwen2 takes only as many channels of
#: queries as the model is wide. Llama's may have a bias in the output projection of attention.
_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "llama", "qwen3": "qwen3"}
#: Architectures that rotate the channels of a head as two halves, as transformers does, and norm queries and keys,
#: which that of uneven models does not. Others rotate neighbouring channels, and queries and keys are stored so.
HALVES = ("qwen3",)
#: Those whose files store the channels of a head as two halves.
_STORED_HALVES = ("qwen2", "qwen3")
#: The kind of a file that keeps the types of its source, and the names of llama.cpp for other kinds of files.
SOURCE = "source"
_FILE_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "Q8_0": "MOSTLY_Q8_0", SOURCE: "ALL_F32"}
#: Keys of a source that describe the file and not the model.
_OF_FILE = ("GGUF.", "general.architecture", "general.alignment", "split.")
#: Kinds of rotary positions whose frequencies are constant; those that differ from the default are written.
_ROTATIONS = ("default", "linear", "llama3")
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
#: Names of llama.cpp for the way in which a tokenizer splits a text before it merges bytes.
_SPLITS = {
    "ByteLevel False True": "gpt-2",
    "Digits True, ByteLevel False True": "smollm",
    f"Split {_LLAMA_3}, ByteLevel False False": "llama-bpe",
    f"Split {_LLAMA_3.replace('{1,3}', '')}, ByteLevel False False": "qwen2",
}


def refuse_gguf(card: ModelCard, mask: HeadMask | None = None, *, adder: str = "") -> str | None:
    """Return why a model cannot be a GGUF file, as a clause (None: it can).

    ``adder`` is the noun of a recovery that adds a bias to output projections without one (empty: it adds none). Of a
    model whose files are not located yet only its kind is known.
    """
    if output_head(card) != "causal":
        return "llama.cpp runs causal language models only"
    if not card.folder:
        return None
    config = read_json(Path(card.folder) / CONFIG)
    if card.family not in _ARCHITECTURES:
        return f"it is of the architecture {card.family}, and the GGUF form is written for {', '.join(_ARCHITECTURES)}"
    lost = find_lost_part(config)
    if lost is not None:
        return f"it has {lost}, which the GGUF form leaves out"
    halves = _ARCHITECTURES[card.family] in HALVES
    even = mask is None or len(set(mask.counts)) == 1
    if halves and not even:
        return (
            f"its layers keep different numbers of heads, and llama.cpp's architecture for that ({UNEVEN}) lacks the "
            f"norms of its queries and keys; {EVENLY}"
        )
    if adder and (halves or (mask is not None and mask.empty_layers)):
        return f"llama.cpp reads no bias in the output projection of its attention, and {adder} needs one"
    if mask is not None and mask.empty_layers and config.get("attention_bias"):
        return "a layer without attention has no bias, and the output projections of this model have one"
    if card.source is None:
        try:
            name_split(card)
        except ValueError as error:
            return str(error)
    return None


def find_lost_part(config: Fields) -> str | None:
    """Name a part of a model that GGUF cannot describe (None: there is none)."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    # Older configurations call it ``type``, and transformers reads both.
    rotation = rope.get("rope_type", rope.get("type", "default"))
    if rotation not in _ROTATIONS:
        return f"rotary positions of the kind {rotation}"
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return "a sliding window"
    if config.get("mlp_bias"):
        return "biases in its feed-forward blocks"
    if config.get("hidden_act", "silu") != "silu":
        return "another activation than SiLU"
    return None


@lru_cache(maxsize=8)
def name_split(card: ModelCard) -> str:
    """Return llama.cpp's name for the way in which the tokenizer of a model splits a text.

    Raises:
        ValueError: If there is no name for it, with the reason as a clause.
    """
    file = Path(card.folder) / "tokenizer.json"
    if not file.is_file():
        raise ValueError("it has no tokenizer.json")
    content = json.loads(file.read_text(encoding="utf-8"))
    first = content.get("pre_tokenizer") or {}
    split = []
    for step in first.get("pretokenizers", [first]):
        match step.get("type"):
            case "ByteLevel":
                split.append(f"ByteLevel {step.get('add_prefix_space')} {step.get('use_regex', True)}")
            case "Digits":
                split.append(f"Digits {step.get('individual_digits')}")
            case other:
                split.append(f"{other} {(step.get('pattern') or {}).get('Regex')}")
    if content["model"].get("type") != "BPE" or not split[-1].startswith("ByteLevel"):
        raise ValueError("its tokenizer does not merge bytes, which is the only kind that the GGUF form has")
    name = _SPLITS.get(", ".join(split))
    if name is None or (content.get("normalizer") or {}).get("type") not in (None, "NFC"):
        raise ValueError("llama.cpp has no name that we know for the way in which its tokenizer splits a text")
    return name


def save_gguf(file: Path, pruned: HeadModel, mask: HeadMask, *, kind: str = "F32") -> str | None:
    """Save a network that was cut to ``mask``, with its tokenizer, as a GGUF file.

    Matrices are written as ``kind``, a type of ggml; vectors are small, and stay in float32. With the kind ``SOURCE``,
    heads leave the file that the model was read from without unpacking what stays: kept blocks are equal, byte for
    byte. In such a file the rows of queries, keys and values are whole heads, and blocks of 32 numbers lie along a row,
    so that the columns of a head in the output projection are whole blocks, too, if their number is a multiple of 32.
    Larger blocks (those of 256 numbers) may hold several heads: a matrix that is cut through them, or that a recovery
    changed, is quantised anew, in its own type where the ``gguf`` library can write it, and otherwise in 8 bits.

    Returns what became of the tensors of a source, in a sentence (None: it has another kind).
    """
    import gguf
    import torch

    from cahp.models.stored import in_float32

    card = pruned.card
    network = in_float32(pruned.network)
    config = network.config
    size = card.head_size // card.group
    # A number for all layers, or a list of those of each.
    heads: Any = [len(layer.self_attn.q_proj.weight) // size for layer in network.model.layers]
    units: Any = [len(layer.self_attn.k_proj.weight) // size for layer in network.model.layers]
    name = UNEVEN
    if len(set(heads)) == len(set(units)) == 1:
        name = _ARCHITECTURES[card.family]
        heads = heads[0]
        units = units[0]
    halves = name in HALVES
    theta = config.rope_parameters["rope_theta"]
    described = {
        "general.name": card.id,
        "general.file_type": int(gguf.LlamaFileType[_FILE_TYPES[kind]]),
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.block_count": card.layers,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": heads,
        f"{name}.attention.head_count_kv": units,
        f"{name}.attention.key_length": size,
        f"{name}.attention.value_length": size,
        f"{name}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{name}.rope.dimension_count": size,
        f"{name}.rope.freq_base": float(theta),
        f"{name}.vocab_size": config.vocab_size,
    }
    writer = gguf.GGUFWriter(file, name)
    source: Any = None
    if card.source is None:
        _write_tokenizer(writer, pruned)
    else:
        # What the file says of its tokenizer and, where its types are kept, of its model.
        source = gguf.GGUFReader(card.source)
        before = source.fields["general.architecture"].contents()
        for field in source.fields.values():
            key = re.sub(f"^{re.escape(before)}[.]", f"{name}.", field.name)
            copied = (kind == SOURCE or key.startswith("tokenizer.")) and not key.startswith(_OF_FILE)
            # The format has no empty lists. The numbers of heads are those that are left.
            if copied and not key.startswith(f"{name}.attention.head_count") and field.contents() != []:
                inside = None
                if field.types[0] == gguf.GGUFValueType.ARRAY:
                    inside = field.types[-1]
                writer.add_key_value(key, field.contents(), field.types[0], sub_type=inside)
                described.pop(key, None)
    for key, value in described.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    tensors: dict[str, Floats32] = {}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[name.upper()], card.layers)
    for key, tensor in network.state_dict().items():
        values = tensor.detach().float().cpu().contiguous().numpy()
        stem, _, end = key.rpartition(".")
        stored = str(names.get_name(stem))
        if stored == "output" and config.tie_word_embeddings:
            continue
        if ".attn_" in stored and not mask.by_layer[int(stored.split(".")[1])]:
            # A layer without attention has no tensors of it, not even the norm before it.
            continue
        if stored.endswith(("attn_q", "attn_k")) and not halves:
            values = _alternate(values, size)
        tensors[f"{stored}.{end}"] = values
    made = None
    if kind == SOURCE:
        made = _copy_tensors(source, writer, mask, tensors, size=size, halves=halves)
    else:
        rotary = network.model.rotary_emb.inv_freq.float().cpu()
        plain = theta ** (-torch.arange(0, size, 2).float() / size)
        if not torch.allclose(rotary, plain, rtol=1e-5, atol=0.0):
            tensors["rope_freqs.weight"] = (plain / rotary).numpy()
    for key, values in tensors.items():
        if values.ndim == 1 or kind in ("F32", SOURCE):
            writer.add_tensor(key, values)
        else:
            raw, stored_as = _quantise(values, gguf.GGMLQuantizationType[kind])
            writer.add_tensor(key, raw, raw_dtype=stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return made


def _alternate(rows: Array, size: int) -> Array:
    """Let the two halves of each head's ``size`` rows alternate."""
    return rows.reshape(-1, 2, size // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def _write_tokenizer(writer: Any, pruned: HeadModel) -> None:
    """Write the metadata of a tokenizer that merges bytes."""
    from gguf import SpecialVocab, TokenType

    folder = Path(pruned.card.folder)
    tokenizer = pruned.tokenizer
    count = pruned.network.config.vocab_size
    words = {index: word for word, index in tokenizer.get_vocab().items()}
    types = list[int]()
    for index in range(count):
        added = tokenizer.added_tokens_decoder.get(index)
        kind = TokenType.NORMAL
        if index not in words:
            kind = TokenType.UNUSED
        elif added is not None:
            kind = TokenType.CONTROL if added.special else TokenType.USER_DEFINED
        types.append(kind)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name_split(pruned.card))
    writer.add_token_list([words.get(index, f"[PAD{index}]") for index in range(count)])
    writer.add_token_types(types)
    writer.add_add_space_prefix(False)
    special = SpecialVocab(folder, load_merges=True, n_vocab=count)
    # The library guesses this by the tokenizer's template.
    beginning = special.special_token_ids.get("bos")
    special.add_special_token["bos"] = tokenizer("a")["input_ids"][:1] == [beginning]
    special.add_to_gguf(writer, quiet=True)


def _copy_tensors(
    source: Any, writer: Any, mask: HeadMask, wanted: dict[str, Floats32], *, size: int, halves: bool
) -> str:
    """Copy the blocks of the heads that stay, and take from ``wanted`` all tensors that the source has.

    What does not mean the weights ``wanted`` is quantised anew. Returns what became of the tensors, in a sentence.
    """
    from gguf.quants import dequantize

    turned = source.fields["general.architecture"].contents() in _STORED_HALVES and not halves
    kept = 0
    anew = Counter[str]()
    for tensor in source.tensors:
        name = tensor.name
        kind = tensor.tensor_type
        raw: Any = np.asarray(tensor.data)
        values = wanted.pop(name, None)
        if name.startswith("blk."):
            if values is None:
                # The attention of a layer that keeps no head.
                continue
            raw = _cut(tensor, mask)
            if turned and raw is not None and name.split(".")[2] in ("attn_q", "attn_k"):
                raw = np.ascontiguousarray(_alternate(raw, size))
        if values is not None and (raw is None or not np.array_equal(dequantize(raw, kind), values)):
            raw, kind = _quantise(values, kind)
            anew[kind.name] += 1
        else:
            kept += 1
        writer.add_tensor(name, raw, raw_shape=raw.shape, raw_dtype=kind)
    words = f"{kept} tensors equal those of the source, block by block"
    if anew:
        words += f"; quantised anew: {', '.join(f'{count} as {kind}' for kind, count in sorted(anew.items()))}"
    return words


def _cut(tensor: Any, mask: HeadMask) -> Array | None:
    """Return the stored rows or blocks of the heads that stay (None: they are not whole blocks)."""
    import gguf

    raw = np.asarray(tensor.data)
    _, place, part, *_ = tensor.name.split(".")
    keep = mask.keep[int(place)]
    if part in ("attn_q", "attn_k", "attn_v"):
        return np.ascontiguousarray(raw[np.repeat(keep, len(raw) // len(keep))])
    if part == "attn_output" and tensor.name.endswith(".weight"):
        columns = int(tensor.shape[0]) // len(keep)
        block, _ = gguf.GGML_QUANT_SIZES[tensor.tensor_type]
        # A block is stored in so many entries of a row, and holds so many columns.
        stored = raw.shape[-1]
        if stored % len(keep) or columns % block:
            return None
        return np.ascontiguousarray(raw[:, np.repeat(keep, stored // len(keep))])
    return raw


def _quantise(values: Floats32, kind: Any) -> tuple[Array, Any]:
    """Quantise in a type, or in 8 bits where the library cannot write that, or in float where rows are too short."""
    import gguf
    from gguf.quants import QuantError, quantize

    for candidate in (kind, gguf.GGMLQuantizationType.Q8_0):
        try:
            return quantize(values, candidate), candidate
        except (NotImplementedError, QuantError):
            continue
    return values, gguf.GGMLQuantizationType.F32
