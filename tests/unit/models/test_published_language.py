"""Published configurations of language models: each family is described as it is, or refused for a true reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cahp.models.description import check_attention, describe_config
from cahp.values import ModelError

#: One model a line: its type, millions of weights, ``heads`` (layers, units, query heads of a unit), and the entries of
#: its published configuration that describe the network.
LINES = (Path(__file__).parent / "published_language.jsonl").read_text(encoding="utf-8").splitlines()
DESCRIBED: list[dict[str, Any]] = [json.loads(line) for line in LINES]
#: Model type, a part of the reason, and entries of a published configuration.
REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("falcon", "special projections", {"hidden_size": 4544, "num_attention_heads": 71, "multi_query": True}),
    ("codegen", "by the four devices", {"n_embd": 1024, "n_layer": 20, "n_head": 16, "rotary_dim": 32}),
    ("diffllama", "no head works alone", {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16}),
    ("jetmoe", "among experts", {"hidden_size": 2048, "num_hidden_layers": 24, "num_key_value_heads": 16}),
    ("deepseek_v3", "quantized weights", {"hidden_size": 7168, "quantization_config": {"quant_method": "fp8"}}),
    ("gpt_oss", "quantized weights", {"hidden_size": 2880, "quantization_config": {"quant_method": "mxfp4"}}),
    ("mamba", "no attention heads", {"hidden_size": 768, "num_hidden_layers": 24, "state_size": 16}),
    ("mamba2", "no attention heads", {"hidden_size": 2560, "num_hidden_layers": 64, "num_heads": 80, "head_dim": 64}),
    ("falcon_mamba", "no attention heads", {"hidden_size": 4096, "num_hidden_layers": 64}),
    ("rwkv", "no attention heads", {"hidden_size": 768, "num_hidden_layers": 12, "attention_hidden_size": 768}),
    ("xlstm", "no attention heads", {"hidden_size": 4096, "num_heads": 8, "num_blocks": 32}),
    ("longcat_flash", "layers.*.self_attn.0, layers.*.self_attn.1", {"hidden_size": 6144, "num_layers": 28}),
    ("internlm2", "whose own code is not run", {"hidden_size": 4096, "num_hidden_layers": 32}),
]


def write(folder: Path, kind: str, values: dict[str, Any]) -> Path:
    """The ``config.json`` of a causal language model."""
    entries = {"model_type": kind, "architectures": ["XForCausalLM"], **values}
    (folder / "config.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize("row", DESCRIBED, ids=[f"{row['type']}-{row['millions']}" for row in DESCRIBED])
def test_a_published_language_model_is_described(tmp_path: Path, row: dict[str, Any]) -> None:
    weights = row["millions"] * 1_000_000
    card = describe_config("model", write(tmp_path, row["type"], row["config"]), weight_bytes=2 * weights)
    check_attention(card, weights)
    assert [card.layers, card.heads, card.group] == row["heads"]
    assert card.language == "causal"


@pytest.mark.parametrize(("kind", "reason", "values"), REFUSED, ids=[kind for kind, *_ in REFUSED])
def test_what_is_refused_is_refused_for_a_true_reason(
    tmp_path: Path, kind: str, reason: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ModelError) as refused:
        describe_config("model", write(tmp_path, kind, values), weight_bytes=1_000_000_000_000)
    assert reason in str(refused.value)


def test_a_model_of_pictures_and_text_is_refused_as_such(tmp_path: Path) -> None:
    parts = {"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 34}, "vision_config": {}}
    write(tmp_path, "gemma3", {**parts, "architectures": ["Gemma3ForConditionalGeneration"]})
    with pytest.raises(ModelError, match="joins a language model with parts for other inputs"):
        describe_config("model", tmp_path, weight_bytes=8_600_000_000)
