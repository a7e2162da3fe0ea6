"""Published configurations: each family is described as it is, or refused for a true reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import zoo
from transformers import CONFIG_MAPPING

from cahp.models.cards import REFUSED
from cahp.models.identity import describe_config
from cahp.values import ModelError


def sizes(vocab: int, hidden: int, inner: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    """A configuration with the names of sizes that most models have."""
    named = {"vocab_size": vocab, "hidden_size": hidden, "intermediate_size": inner}
    return {**named, "num_hidden_layers": layers, "num_attention_heads": heads, **more}


def rotates(kind: str) -> bool:
    # ESM's own class takes no whole number as the base.
    return kind != "esm" and "rope_parameters" in CONFIG_MAPPING[kind]().to_dict()


#: One model a line: its type, millions of weights, ``heads`` (layers, units, query heads of a unit), and the entries of
#: its published configuration that describe the network.
LINES = (Path(__file__).parent / "published_language.jsonl").read_text(encoding="utf-8").splitlines()
DESCRIBED: list[dict[str, Any]] = [json.loads(line) for line in LINES]
#: Model type, a part of the reason, and entries of a published configuration.
UNSUPPORTED: list[tuple[str, str, dict[str, Any]]] = [
    ("falcon", "special projections", {"hidden_size": 4544, "num_attention_heads": 71, "multi_query": True}),
    ("codegen", "by the four devices", {"n_embd": 1024, "n_layer": 20, "n_head": 16, "rotary_dim": 32}),
    ("diffllama", "no head works alone", {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16}),
    ("jetmoe", "among experts", {"hidden_size": 2048, "num_hidden_layers": 24, "num_key_value_heads": 16}),
    ("deepseek_v3", "quantized weights", {"hidden_size": 7168, "quantization_config": {"quant_method": "fp8"}}),
    ("mamba", "no attention heads", {"hidden_size": 768, "num_hidden_layers": 24, "state_size": 16}),
    ("rwkv", "no attention heads", {"hidden_size": 768, "num_hidden_layers": 12, "attention_hidden_size": 768}),
    ("longcat_flash", "layers.*.self_attn.0, layers.*.self_attn.1", {"hidden_size": 6144, "num_layers": 28}),
    ("internlm2", "whose own code is not run", {"hidden_size": 4096, "num_hidden_layers": 32}),
]
#: Classifiers: model type, millions of weights, and what a published configuration says that its defaults do not.
PUBLISHED: list[tuple[str, int, dict[str, Any]]] = [
    ("albert", 223, sizes(30_000, 4096, 16_384, 12, 64, embedding_size=128)),
    ("bart", 406, {"vocab_size": 50_265, "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12}),
    ("deberta-v2", 1_570, sizes(128_100, 1536, 6144, 48, 24, position_buckets=256, type_vocab_size=0)),
    ("esm", 15_000, sizes(33, 5120, 20_480, 48, 40, position_embedding_type="rotary", max_position_embeddings=1026)),
    ("llama", 70_554, sizes(128_256, 8192, 28_672, 80, 64, num_key_value_heads=8, rope_theta=500_000)),
    ("minicpm3", 4_070, sizes(73_448, 2560, 6400, 62, 40, q_lora_rank=768, kv_lora_rank=256)),
    ("t5", 11_307, {"vocab_size": 32_128, "d_model": 1024, "d_kv": 128, "d_ff": 65_536, "num_heads": 128}),
    ("xlm", 570, {"n_words": 200_000, "emb_dim": 1280, "n_layers": 16, "n_heads": 16, "n_langs": 17}),
    ("xlm-roberta-xl", 10_700, sizes(250_880, 4096, 16_384, 48, 32, max_position_embeddings=514)),
]


def write(folder: Path, head: str, entries: dict[str, Any]) -> None:
    """The ``config.json`` of a model with a ``head``."""
    (folder / "config.json").write_text(json.dumps({**entries, "architectures": [f"XFor{head}"]}, default=str))


@pytest.mark.parametrize(("kind", "millions", "values"), PUBLISHED, ids=[kind for kind, *_ in PUBLISHED])
def test_a_published_classifier_is_described(tmp_path: Path, kind: str, millions: int, values: dict[str, Any]) -> None:
    write(tmp_path, "SequenceClassification", {**CONFIG_MAPPING[kind](**values).to_dict(), **values})
    described = describe_config("model", tmp_path, weight_bytes=2_000_000 * millions)
    assert described.heads * described.group > 1


@pytest.mark.parametrize("kind", [kind for kind in zoo.TYPES if kind not in REFUSED and rotates(kind)])
def test_a_small_model_may_have_a_large_rope_base_and_window(tmp_path: Path, kind: str) -> None:
    large = {"rope_theta": 10_000_000, "sliding_window": 10_000_000}
    write(tmp_path, "SequenceClassification", {**zoo.configuration(kind).to_dict(), **large})
    assert describe_config("model", tmp_path, weight_bytes=100_000).family == kind


@pytest.mark.parametrize("row", DESCRIBED, ids=[f"{row['type']}-{row['millions']}" for row in DESCRIBED])
def test_a_published_language_model_is_described(tmp_path: Path, row: dict[str, Any]) -> None:
    write(tmp_path, "CausalLM", {"model_type": row["type"], **row["config"]})
    card = describe_config("model", tmp_path, weight_bytes=2_000_000 * row["millions"])
    assert [card.layers, card.heads, card.group] == row["heads"]
    assert card.language == "causal"


@pytest.mark.parametrize(("kind", "reason", "values"), UNSUPPORTED, ids=[kind for kind, *_ in UNSUPPORTED])
def test_what_is_refused_has_a_true_reason(tmp_path: Path, kind: str, reason: str, values: dict[str, Any]) -> None:
    write(tmp_path, "CausalLM", {"model_type": kind, **values})
    with pytest.raises(ModelError, match=re.escape(reason)):
        describe_config("model", tmp_path, weight_bytes=1_000_000_000_000)


def test_a_model_of_pictures_and_text_is_refused_as_such(tmp_path: Path) -> None:
    parts = {"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34}, "vision_config": {}}
    write(tmp_path, "ConditionalGeneration", {"model_type": "gemma3", **parts})
    with pytest.raises(ModelError, match="joins a language model with parts for other inputs"):
        describe_config("model", tmp_path, weight_bytes=8_600_000_000)
