"""A tiny random model of every text classifier of transformers that its configuration alone describes."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fakes
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

from cahp import models
from cahp.models.cards import REFUSED
from cahp.models.head_model import HeadModel

#: What configurations call their sizes: each takes of these what it has.
_NAMES: dict[str, tuple[int, str]] = {
    "layers": (2, "num_hidden_layers n_layer n_layers num_layers encoder_layers"),
    "layers of a decoder": (1, "num_decoder_layers decoder_layers"),
    "heads": (4, "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads"),
    "groups of heads": (2, "num_key_value_heads linear_num_key_heads linear_num_value_heads"),
    "width": (32, "hidden_size n_embd dim emb_dim d_model word_embed_proj_dim decoder_ffn_dim"),
    "inner width": (48, "intermediate_size n_inner hidden_dim d_ff dff encoder_ffn_dim ffn_dim"),
    "width of a head": (8, "head_dim d_kv v_head_dim linear_key_head_dim linear_value_head_dim"),
    "positions": (80, "max_position_embeddings n_positions"),
    "experts": (4, "num_local_experts num_experts n_routed_experts"),
    "experts of a token": (2, "num_experts_per_tok"),
    "groups of experts": (1, "n_group topk_group"),
    "width of an expert": (16, "moe_intermediate_size shared_expert_intermediate_size"),
    "latent attention": (16, "q_lora_rank kv_lora_rank"),
    "its parts of a head": (4, "qk_rope_head_dim qk_nope_head_dim"),
    "mixers beside attention": (4, "mamba_d_state mamba_dt_rank"),
    "types": (2, "type_vocab_size"),
    "embeddings": (16, "embedding_size"),
    "places on a page": (64, "max_2d_position_embeddings"),
    "a coordinate and the depth of a page": (4, "coordinate_size max_depth"),
    "tables and entities": (8, "shape_size max_xpath_tag_unit_embeddings max_xpath_subs_unit_embeddings"),
    "more tables and entities": (8, "xpath_unit_hidden_size entity_vocab_size entity_emb_size"),
    "padding of tags": (7, "tag_pad_id subs_pad_id"),
    "first token": (2, "bos_token_id cls_token_id"),
    "last token": (3, "eos_token_id sep_token_id forced_eos_token_id decoder_start_token_id"),
    "mask": (1, "mask_token_id"),
}
SMALL: dict[str, Any] = {name: size for size, names in _NAMES.values() for name in names.split()}
_LATENT = {"head_dim": None, "num_key_value_heads": 4}
_INDICES = {"bos_index": 2, "eos_index": 3, "pad_index": 0, "unk_index": 1, "mask_index": 1, "n_langs": 1}
#: What some need besides, or do not take.
OF_THEIR_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "minicpm3", "mistral4"), _LATENT),
    # Experts from the second layer on, where by default there are three without.
    "deepseek_v3": {**_LATENT, "first_k_dense_replace": 1},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "ctrl": {"dff": 48},
    "esm": {"position_embedding_type": "rotary", "token_dropout": False},
    "esmc": {"num_key_value_heads": None},
    "falcon": {"head_dim": None},
    "flaubert": _INDICES,
    "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 6},
    "gptj": {"rotary_dim": 4},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "layoutlmv3": {"visual_embed": False},
    "minimax": {
        "num_hidden_layers": 3,
        "block_size": 8,
        "layer_types": ["full_attention", "linear_attention", "full_attention"],
    },
    "lilt": {"hidden_size": 48, "channel_shrink_ratio": 2},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32, "num_feedforward_networks": 2},
    "mpt": {"max_seq_len": 80},
    "qwen3_5_text": {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2},
    "qwen3_next": {"num_hidden_layers": 4, "layer_types": ["linear_attention", "full_attention"] * 2},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "roc_bert": {"pronunciation_vocab_size": 8, "shape_vocab_size": 8},
    "squeezebert": {"embedding_size": 32},
    "t5": {"decoder_start_token_id": 0},
    "tapas": {"type_vocab_sizes": [3, 8, 8, 2, 8, 8, 4]},
    "xlm": _INDICES,
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
#: Models of images, or of several parts with configurations of their own, that text alone does not describe.
NOT_SMALL = (
    "cohere_compass_text",
    "gemma3",
    "layoutlmv2",
    "modernvbert",
    "perceiver",
    "qwen3_5",
    "t5gemma",
    "t5gemma2",
    "ultravbert",
    "xlnet",
    "zamba",
    "zamba2",
)
TYPES = sorted(set(CLASSIFIERS) - set(NOT_SMALL))


def configuration(kind: str, **more: Any) -> Any:
    """A small configuration of the model type ``kind``."""
    of_kind = CONFIG_MAPPING[kind]
    there = of_kind()
    sizes = {name: value for name, value in SMALL.items() if hasattr(there, name)}
    given = {**sizes, **OF_THEIR_OWN.get(kind, {}), **more}
    labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    words = {"vocab_size": len(fakes.SPECIAL) + len(fakes.WORDS), "pad_token_id": 0}
    return of_kind(**{**words, **labels, **{name: value for name, value in given.items() if value is not None}})


def network(kind: str, *, seed: int = 0, **more: Any) -> Any:
    """A random classifier of the model type ``kind``, with weights large enough that its heads matter."""
    torch.manual_seed(seed)
    made = AutoModelForSequenceClassification.from_config(configuration(kind, **more))
    fakes.check_small(made)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim > 1 and "embed" not in name:
                parameter.normal_(0.0, 0.2)
            elif name.endswith(("sinks", "q_bias", "v_bias", "self_attn.A")):
                parameter.normal_(0.0, 0.5)
    return made.eval()


def save(folder: Path, kind: str, *, seed: int = 0, **more: Any) -> Path:
    """``network`` in ``folder``, with a tokenizer."""
    network(kind, seed=seed, **more).save_pretrained(folder)
    fakes.tokenizer(type_ids=kind in fakes.TYPED).save_pretrained(folder)
    return folder


def save_language_model(folder: Path, kind: str, **more: Any) -> Path:
    """A random causal language model of the model type ``kind`` in ``folder``, with a tokenizer."""
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(configuration(kind, **more))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2)
    made.save_pretrained(folder)
    fakes.tokenizer(type_ids=False).save_pretrained(folder)
    return folder


def type_row(kind: str, model: HeadModel) -> str:
    """Return the row of a model type in the table of types; ``model`` is a loaded model of that type."""
    family, card = model.family, model.card
    restrictions = {
        "no refit": card.no_refit,
        "refit of the attention output only": not card.no_refit and len(family.refits) == 1,
        "maps are read, not edited": not family.edits,
        "no cut, so no compact or ONNX export": family.no_cut,
        "no ONNX export": card.no_onnx,
        "rows are its attention layers": card.places,
    }
    units = "key-value groups" if card.group > 1 else "heads"
    restricted = "; ".join(words for words, holds in restrictions.items() if holds)
    return f"| {kind} | {family.matched or 'by name'} | {units} | {restricted} |"


def types_table() -> list[str]:
    """Return the table of types in the guide, for which a tiny model of each type is loaded."""
    lines = ["| type | matched | counted | restricted |", "|---|---|---|---|"]
    for kind in sorted(set(TYPES) - set(REFUSED)):
        with TemporaryDirectory() as folder:
            lines.append(type_row(kind, models.load(str(save(Path(folder) / "model", kind, seed=3)), device="cpu")))
    return lines
