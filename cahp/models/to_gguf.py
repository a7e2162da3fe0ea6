"""Write a pruned language model as a GGUF file, for llama.cpp and the tools that are built on it.

An even model is of Llama's architecture, or of its own. An uneven one is a ``deci`` model: Llama's layers with a list
of their numbers of heads. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cahp.models.cards import ModelCard
from cahp.models.gguf import read_header
from cahp.models.identity import output_head
from cahp.models.weights import CONFIG, read_json
from cahp.values import HeadMask

if TYPE_CHECKING:
    from torch import Tensor

    from cahp.models.head_model import HeadModel

#: Names of the parts of a network, and of a layer, in the format.
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
#: The architecture of uneven models.
UNEVEN = "deci"


@dataclass(frozen=True)
class _Architecture:
    """An architecture of llama.cpp: its ``name``, and what else its layers are beside Llama's.

    ``halves`` tells that the channels of a head are rotated as two halves, as transformers does; otherwise neighbouring
    channels are, and the rows of queries and keys are stored in that order. ``norms`` are those of queries and keys,
    which the architecture of uneven models lacks. ``output_bias`` tells that the output projection may have a bias.
    """

    name: str
    halves: bool = False
    norms: bool = False
    output_bias: bool = False


#: By the model type of transformers.
_ARCHITECTURES = {
    "llama": _Architecture("llama", output_bias=True),
    "mistral": _Architecture("llama", output_bias=True),
    # Its own architecture takes only as many channels of queries as the model is wide.
    "qwen2": _Architecture("llama", output_bias=True),
    "qwen3": _Architecture("qwen3", halves=True, norms=True),
}
#: Kinds of rotary positions whose frequencies are constant; those that differ from the default are written.
_ROTATIONS = ("default", "linear", "llama3")
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
#: Names of llama.cpp for the way in which a tokenizer splits a text before it merges bytes, by its first expression.
_SPLITS = {_LLAMA_3: "llama-bpe", _LLAMA_3.replace("{1,3}", ""): "qwen2", "digits": "smollm", "": "gpt-2"}


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
    architecture = _ARCHITECTURES.get(card.family)
    if architecture is None:
        return f"it is of the architecture {card.family}, and the GGUF form is written for {', '.join(_ARCHITECTURES)}"
    lost = find_lost_part(config)
    if lost is not None:
        return f"it has {lost}, which the GGUF form leaves out"
    even = mask is None or len(set(mask.counts)) == 1
    if not even and architecture.norms:
        return (
            f"its layers keep different numbers of heads, and llama.cpp's architecture for that ({UNEVEN}) lacks the "
            "norms of its queries and keys; choose heads with --even"
        )
    if adder and (not architecture.output_bias or (mask is not None and mask.empty_layers)):
        return f"llama.cpp reads no bias in the output projection of its attention, and {adder} needs one"
    if mask is not None and mask.empty_layers and config.get("attention_bias"):
        return "a layer without attention has no bias, and the output projections of this model have one"
    try:
        name_split(card)
    except ValueError as error:
        return str(error)
    return None


def refuse_tokenizer(card: ModelCard) -> str | None:
    """Return why a tokenizer cannot be written anew, where a GGUF file has it (None: it can)."""
    if card.source is None or not card.folder or _read_fact(card.source, card.sha256, "tokenizer.ggml.model") == "gpt2":
        return None
    return "its tokenizer does not merge bytes, which is the only kind that the GGUF form writes; choose gguf-types"


def find_lost_part(config: Mapping[str, Any]) -> str | None:
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


def name_split(card: ModelCard) -> str:
    """Return llama.cpp's name for the way in which a model's tokenizer splits a text.

    A model from a GGUF file keeps the name in that file.

    Raises:
        ValueError: If there is no name for it, with the reason as a clause.
    """
    if card.source is not None:
        name = _read_fact(card.source, card.sha256, "tokenizer.ggml.pre")
        if isinstance(name, str):
            return name
    file = Path(card.folder) / "tokenizer.json"
    if not file.is_file():
        raise ValueError("it has no tokenizer.json")
    return _name_split(str(file), card.sha256)


@lru_cache(maxsize=16)
def _read_fact(source: str, digest: str, name: str) -> Any:
    return read_header(Path(source)).metadata.get(name)


@lru_cache(maxsize=8)
def _name_split(file: str, digest: str) -> str:
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    first = content.get("pre_tokenizer") or {}
    steps = first.get("pretokenizers", [first])
    kinds = [step.get("type") for step in steps]
    if content["model"].get("type") != "BPE" or kinds[-1:] != ["ByteLevel"]:
        raise ValueError("its tokenizer does not merge bytes, which is the only kind that the GGUF form has")
    key = ""
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        key = "digits"
    elif len(steps) == 2:
        key = str((steps[0].get("pattern") or {}).get("Regex", ""))
    last = steps[-1]
    usual = last.get("add_prefix_space") is False and last.get("use_regex", True) == (key in ("", "digits"))
    normaliser = (content.get("normalizer") or {}).get("type")
    known = key in _SPLITS and len(steps) <= 2 and (len(steps) == 1 or key)
    if not known or not usual or normaliser not in (None, "NFC"):
        raise ValueError("llama.cpp has no name that we know for the way in which its tokenizer splits a text")
    return _SPLITS[key]


def save_gguf(file: Path, pruned: HeadModel, mask: HeadMask) -> None:
    """Save a network that was cut to ``mask``, with its tokenizer, as a GGUF file in float32."""
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
        name = _ARCHITECTURES[card.family].name
        heads = heads[0]
        units = units[0]
    writer = gguf.GGUFWriter(file, name)
    writer.add_name(card.id)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(card.layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(units)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    for key, value in _describe_tokenizer(pruned).items():
        getattr(writer, f"add_{key}")(value)
    rotary = network.model.rotary_emb.inv_freq.float().cpu()
    plain = config.rope_parameters["rope_theta"] ** (-torch.arange(0, size, 2).float() / size)
    if not torch.allclose(rotary, plain, rtol=1e-5, atol=0.0):
        writer.add_tensor("rope_freqs.weight", (plain / rotary).numpy())
    for key, values in list_tensors(pruned, mask, architecture=name):
        writer.add_tensor(key, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def turns_channels(card: ModelCard, architecture: str) -> bool:
    """Whether a file of this architecture stores the two halves of each head's channels alternately."""
    return architecture == UNEVEN or not _ARCHITECTURES[card.family].halves


def name_architecture(card: ModelCard, mask: HeadMask) -> str:
    """Return the architecture of llama.cpp for a model that is cut to ``mask``."""
    if len(set(mask.counts)) > 1:
        return UNEVEN
    return _ARCHITECTURES[card.family].name


def list_tensors(pruned: HeadModel, mask: HeadMask, *, architecture: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the weights of a cut network in float32 by their names in the format, for a file of this architecture."""
    from cahp.models.stored import in_float32

    card = pruned.card
    halves = not turns_channels(card, architecture)
    size = card.head_size // card.group
    for name, tensor in _name_tensors(in_float32(pruned.network), mask, size=size, halves=halves):
        yield name, tensor.detach().float().cpu().contiguous().numpy()


def _name_tensors(network: Any, mask: HeadMask, *, size: int, halves: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a network by their names in the format."""
    for name, tensor in network.state_dict().items():
        stem, _, end = name.rpartition(".")
        if stem in WHOLE:
            if stem != "lm_head" or not network.config.tie_word_embeddings:
                yield f"{WHOLE[stem]}.{end}", tensor
            continue
        _, _, place, part = stem.split(".", 3)
        short = LAYER[part]
        if short.startswith("attn") and not mask.by_layer[int(place)]:
            # A layer without attention has no tensors of it, not even the norm before it.
            continue
        if short in ("attn_q", "attn_k") and not halves:
            # The two halves of each head alternate.
            tensor = tensor.reshape(-1, 2, size // 2, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)
        yield f"blk.{place}.{short}.{end}", tensor


def _describe_tokenizer(pruned: HeadModel) -> Mapping[str, Any]:
    """Return the metadata of a tokenizer that merges bytes, by the method of the writer that adds it."""
    import gguf

    tokenizer = pruned.tokenizer
    config = pruned.network.config
    merges = list[str]()
    for merge in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]:
        if isinstance(merge, str):
            merges.append(merge)
        else:
            merges.append(" ".join(merge))
    words = {index: word for word, index in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens = list[str]()
    types = list[int]()
    for index in range(config.vocab_size):
        tokens.append(words.get(index, f"[PAD{index}]"))
        if index not in words:
            types.append(gguf.TokenType.UNUSED)
        elif index not in added:
            types.append(gguf.TokenType.NORMAL)
        elif added[index].special:
            types.append(gguf.TokenType.CONTROL)
        else:
            types.append(gguf.TokenType.USER_DEFINED)
    start = tokenizer("a")["input_ids"]
    beginning = tokenizer.bos_token_id
    if beginning is None:
        beginning = config.bos_token_id
    special = {
        "bos_token_id": beginning,
        "eos_token_id": tokenizer.eos_token_id,
        "unk_token_id": tokenizer.unk_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "chat_template": tokenizer.chat_template,
    }
    return {
        "tokenizer_model": "gpt2",
        "tokenizer_pre": name_split(pruned.card),
        "token_list": tokens,
        "token_types": types,
        "token_merges": merges,
        "add_bos_token": bool(start) and start[0] == special["bos_token_id"],
        "add_space_prefix": False,
        **{key: value for key, value in special.items() if value is not None and isinstance(value, int | str)},
    }


# Surgery on a quantised file ---------------------------------------------------------------------------------------
#
# Heads leave it without unpacking what stays: kept blocks are equal, byte for byte. In such a file the rows of queries,
# keys and values are whole heads, and blocks of 32 numbers lie along a row, so that the columns of a head in the output
# projection are whole blocks, too, if their number is a multiple of 32. Larger blocks (those of 256 numbers) may hold
# several heads: a matrix that is cut through them, or that a recovery changed, is quantised anew, in its own type where
# the ``gguf`` library can write it, and otherwise in 8 bits.

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
    before = str(reader.fields["general.architecture"].contents())
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
        import gguf

        columns = int(tensor.shape[0]) // len(keep)
        block, _ = gguf.GGML_QUANT_SIZES[tensor.tensor_type]
        stored = raw.shape[-1]
        # A block is stored in so many entries of a row, and holds so many columns.
        if stored % len(keep) or columns % block:
            return None
        return np.ascontiguousarray(raw[:, np.repeat(keep, stored // len(keep))])
    return raw


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
