"""Values of published configurations: no family is refused for a number that one of its models has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zoo
from transformers import CONFIG_MAPPING

from cahp.models.description import check_attention, describe_config
from cahp.models.families import REFUSED


def llama(vocab: int, hidden: int, inner: int, layers: int, heads: int, groups: int, **more: Any) -> dict[str, Any]:
    """A configuration with the names of sizes that most decoders have."""
    sizes = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    return {**sizes, "num_attention_heads": heads, "num_key_value_heads": groups, **more}


def bert(vocab: int, hidden: int, inner: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    """A configuration with the names of sizes that most encoders have."""
    return {name: size for name, size in llama(vocab, hidden, inner, layers, heads, 0, **more).items() if size != 0}


def rotates(kind: str) -> bool:
    # ESM's own class takes no whole number as the base.
    return kind != "esm" and "rope_parameters" in CONFIG_MAPPING[kind]().to_dict()


#: Model type, millions of weights, and what the configuration of a published model says that its defaults do not.
PUBLISHED: list[tuple[str, int, dict[str, Any]]] = [
    ("albert", 223, bert(30_000, 4096, 16_384, 12, 64, embedding_size=128)),
    ("arcee", 4_600, llama(128_004, 2560, 18_432, 36, 20, 4, max_position_embeddings=65_536)),
    ("bart", 406, {"vocab_size": 50_265, "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12}),
    ("bert", 335, bert(30_522, 1024, 4096, 24, 16)),
    ("biogpt", 1_571, bert(57_717, 1600, 6400, 48, 25, max_position_embeddings=2048)),
    ("bloom", 176_247, {"vocab_size": 250_880, "hidden_size": 14_336, "n_layer": 70, "n_head": 112}),
    ("camembert", 335, bert(32_005, 1024, 4096, 24, 16, max_position_embeddings=514)),
    ("ctrl", 1_638, {"vocab_size": 246_534, "n_embd": 1280, "dff": 8192, "n_layer": 48, "n_positions": 50_000}),
    ("deberta-v2", 1_570, bert(128_100, 1536, 6144, 48, 24, position_buckets=256, type_vocab_size=0)),
    (
        "deepseek_v2",
        15_706,
        llama(102_400, 2048, 10_944, 27, 16, 16, n_routed_experts=64, moe_intermediate_size=1408, q_lora_rank=None),
    ),
    (
        "deepseek_v3",
        671_026,
        llama(129_280, 7168, 18_432, 61, 128, 128, n_routed_experts=256, max_position_embeddings=163_840),
    ),
    ("distilbert", 66, {"vocab_size": 30_522, "dim": 768, "hidden_dim": 3072, "n_layers": 6, "n_heads": 12}),
    ("doge", 320, llama(32_768, 1024, 2048, 32, 8, 4, num_experts=16_384, is_moe=True)),
    ("electra", 335, bert(30_522, 1024, 4096, 24, 16, embedding_size=1024)),
    ("ernie", 118, bert(40_000, 768, 3072, 12, 12, max_position_embeddings=2048)),
    ("esm", 15_000, bert(33, 5120, 20_480, 48, 40, position_embedding_type="rotary", max_position_embeddings=1026)),
    ("exaone4", 32_000, llama(102_400, 5120, 27_392, 64, 40, 8, rope_theta=1_000_000, sliding_window=4096)),
    ("gemma", 8_538, llama(256_000, 3072, 24_576, 28, 16, 16, head_dim=256)),
    ("gemma2", 27_227, llama(256_000, 4608, 36_864, 46, 32, 16, head_dim=128, query_pre_attn_scalar=144)),
    ("gemma3_text", 268, llama(262_144, 640, 2048, 18, 4, 1, head_dim=256, rope_theta=1_000_000)),
    ("glm4", 9_400, llama(151_552, 4096, 13_696, 40, 32, 2, rope_theta=10_000.0, max_position_embeddings=131_072)),
    ("gpt2", 1_558, {"vocab_size": 50_257, "n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024}),
    ("gpt_bigcode", 15_517, {"vocab_size": 49_152, "n_embd": 6144, "n_layer": 40, "n_head": 48, "n_positions": 8192}),
    ("gpt_neox", 11_846, bert(50_688, 5120, 20_480, 36, 40)),
    (
        "gpt_oss",
        116_830,
        llama(201_088, 2880, 2880, 36, 64, 8, head_dim=64, num_local_experts=128, rope_theta=150_000),
    ),
    ("gptj", 6_051, {"vocab_size": 50_400, "n_embd": 4096, "n_layer": 28, "n_head": 16, "n_positions": 2048}),
    ("helium", 2_170, llama(48_000, 2560, 7040, 24, 20, 20, rope_theta=100_000)),
    ("llama", 70_554, llama(128_256, 8192, 28_672, 80, 64, 8, rope_theta=500_000, max_position_embeddings=131_072)),
    ("minicpm3", 4_070, llama(73_448, 2560, 6400, 62, 40, 40, q_lora_rank=768, kv_lora_rank=256)),
    ("mistral", 12_248, llama(131_072, 5120, 14_336, 40, 32, 8, rope_theta=1_000_000, sliding_window=None)),
    ("mixtral", 140_620, llama(32_768, 6144, 16_384, 56, 48, 8, num_local_experts=8, rope_theta=1_000_000)),
    ("modernbert", 395, bert(50_368, 1024, 2624, 28, 16, global_rope_theta=160_000)),
    ("mpnet", 109, bert(30_527, 768, 3072, 12, 12, max_position_embeddings=514)),
    ("mpt", 29_958, {"vocab_size": 50_432, "d_model": 7168, "n_layers": 48, "n_heads": 64, "max_seq_len": 8192}),
    ("nemotron", 8_000, llama(256_000, 4096, 16_384, 32, 32, 8)),
    ("olmo2", 32_234, llama(100_352, 5120, 27_648, 64, 40, 8, rope_theta=500_000)),
    (
        "opt",
        30_000,
        {
            "vocab_size": 50_272,
            "hidden_size": 7168,
            "ffn_dim": 28_672,
            "num_hidden_layers": 48,
            "num_attention_heads": 56,
        },
    ),
    ("persimmon", 9_400, bert(262_144, 4096, 16_384, 36, 64, max_position_embeddings=16_384)),
    ("phi3", 13_960, llama(32_064, 5120, 17_920, 40, 40, 10, max_position_embeddings=131_072, sliding_window=262_144)),
    ("phimoe", 41_873, llama(32_064, 4096, 6400, 32, 32, 8, num_local_experts=16, sliding_window=2047)),
    ("qwen2", 72_706, llama(152_064, 8192, 29_568, 80, 64, 8, rope_theta=1_000_000, max_window_layers=70)),
    (
        "qwen2_moe",
        14_316,
        llama(151_936, 2048, 5632, 24, 16, 16, num_experts=60, shared_expert_intermediate_size=5632),
    ),
    ("qwen3", 4_022, llama(151_936, 2560, 9728, 36, 32, 8, rope_theta=5_000_000, max_position_embeddings=262_144)),
    (
        "qwen3_moe",
        30_532,
        llama(151_936, 2048, 6144, 48, 32, 4, rope_theta=10_000_000, num_experts=128, moe_intermediate_size=768),
    ),
    ("roformer", 124, bert(50_000, 768, 3072, 12, 12, max_position_embeddings=1536)),
    ("smollm3", 3_075, llama(128_256, 2048, 11_008, 36, 16, 4, rope_theta=5_000_000, max_position_embeddings=65_536)),
    ("stablelm", 12_143, llama(100_352, 5120, 13_824, 40, 32, 8)),
    ("starcoder2", 15_958, llama(49_152, 6144, 24_576, 40, 48, 4, rope_theta=100_000, sliding_window=4096)),
    ("t5", 11_307, {"vocab_size": 32_128, "d_model": 1024, "d_kv": 128, "d_ff": 65_536, "num_heads": 128}),
    ("xlm", 570, {"n_words": 200_000, "emb_dim": 1280, "n_layers": 16, "n_heads": 16, "n_langs": 17}),
    ("xlm-roberta-xl", 10_700, bert(250_880, 4096, 16_384, 48, 32, max_position_embeddings=514)),
]


def write(folder: Path, config: Any, **values: Any) -> Path:
    """The ``config.json`` of a classifier, with ``values`` where published files have them."""
    entries = {**config.to_dict(), "architectures": ["XForSequenceClassification"], **values}
    (folder / "config.json").write_text(json.dumps(entries, default=str))
    return folder


@pytest.mark.parametrize(("kind", "millions", "values"), PUBLISHED, ids=[kind for kind, *_ in PUBLISHED])
def test_a_published_configuration_is_described(
    tmp_path: Path, kind: str, millions: int, values: dict[str, Any]
) -> None:
    folder = write(tmp_path, CONFIG_MAPPING[kind](**values), **values)
    described = describe_config("model", folder, weight_bytes=2_000_000 * millions)
    check_attention(described, millions * 1_000_000)
    assert described.heads * described.group > 1


@pytest.mark.parametrize("kind", [kind for kind in zoo.TYPES if kind not in REFUSED and rotates(kind)])
def test_a_small_model_may_have_a_large_rope_base_and_window(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path, zoo.configuration(kind), rope_theta=10_000_000, sliding_window=10_000_000)
    assert describe_config("model", folder, weight_bytes=100_000).family == kind
