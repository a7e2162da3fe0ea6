"""A model whose layers keep all heads or none, as servers read it: computed here from the files alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig

from cahp import models
from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, write
from cahp.exports.form import Pruned
from cahp.models.head_model import HeadModel
from cahp.models.nemotron_nas import refuse_nemotron_nas, save_nemotron_nas
from cahp.models.surgery import cut
from cahp.stages.recovery import refit
from cahp.values import HeadMask, ModelError, OptionError

pytestmark = pytest.mark.usefixtures("one_thread", "read_back_here")

FORM = formats.model_form("nemotron-nas")
#: Three layers of four query heads, in two groups. Readers take widths in multiples of 256.
SHAPE: dict[str, Any] = {
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 256,
}
MASK = HeadMask(np.array([[True, True], [False, False], [True, True]]))
WHOLE = HeadMask(np.ones((3, 2), dtype=bool))
IDS = torch.tensor([[2, 9, 14, 5, 7, 11]])
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def save(folder: Path, kind: str, **more: Any) -> str:
    fakes.save_language_model(folder, family=kind, **{**SHAPE, **more})
    # Qwen's tokenizer adds one that the model does not know.
    fakes.configure(folder, "tokenizer_config.json", bos_token="[CLS]")
    return str(folder)


def tiny(folder: Path, kind: str = "llama", **more: Any) -> HeadModel:
    return models.load(save(folder, kind, **more), device="cpu")


def turn_angles(config: dict[str, Any], size: int) -> Tensor:
    """The angle of each pair of channels between neighbouring tokens, ``(size / 2,)``."""
    angles = config["rope_theta"] ** (-torch.arange(0, size, 2).float() / size)
    scaling = config.get("rope_scaling")
    if scaling is None:
        return angles
    # Of Llama 3: long waves are stretched, short ones stay, and those between are mixed.
    turns = scaling["original_max_position_embeddings"] * angles / (2 * torch.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return angles * (kept + (1 - kept) / scaling["factor"])


def read_logits(folder: Path, ids: Tensor) -> Tensor:
    """The logits ``(1, n, vocabulary)`` of tokens ``(1, n)``, by the conventions of MLX, without our code."""
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    size = width // heads
    used = set[str]()

    def take(name: str) -> Tensor:
        used.add(name)
        return weights[name]

    def apply(hidden: Tensor, name: str, *, biased: bool = False) -> Tensor:
        bias = None
        if biased:
            bias = take(f"{name}.bias")
        return functional.linear(hidden, take(f"{name}.weight"), bias)

    def norm(hidden: Tensor, name: str) -> Tensor:
        return functional.rms_norm(hidden, (width,), take(f"{name}.weight"), config["rms_norm_eps"])

    turns = torch.outer(torch.arange(ids.shape[1]).float(), turn_angles(config, size))
    cos, sin = turns.cos(), turns.sin()
    hidden = take("model.embed_tokens.weight")[ids[0]]
    for index, block in enumerate(config["block_configs"]):
        layer = f"model.layers.{index}"
        if not block["attention"]["no_op"]:
            entering = norm(hidden, f"{layer}.input_layernorm")
            parts = {}
            for part in "qkv":
                rows = apply(entering, f"{layer}.self_attn.{part}_proj", biased=config["attention_bias"])
                parts[part] = rows.unflatten(1, (-1, size)).transpose(0, 1)
            for part in "qk":
                left, right = parts[part].chunk(2, dim=-1)
                parts[part] = torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)
            group = block["attention"]["n_heads_in_group"]
            assert len(parts["k"]) * group == heads
            keys, values = (parts[part].repeat_interleave(group, dim=0) for part in "kv")
            context = functional.scaled_dot_product_attention(parts["q"], keys, values, is_causal=True)
            output = apply(
                context.transpose(0, 1).flatten(1), f"{layer}.self_attn.o_proj", biased=config["attention_bias"]
            )
            hidden = hidden + output
        entering = norm(hidden, f"{layer}.post_attention_layernorm")
        # Rounded up to a multiple of 256.
        channels = -(-int(2 * block["ffn"]["ffn_mult"] * width / 3) // 256) * 256
        assert weights[f"{layer}.mlp.up_proj.weight"].shape == (channels, width)
        gate = functional.silu(apply(entering, f"{layer}.mlp.gate_proj"))
        hidden = hidden + apply(gate * apply(entering, f"{layer}.mlp.up_proj"), f"{layer}.mlp.down_proj")
    head = "lm_head.weight"
    if config["tie_word_embeddings"]:
        head = "model.embed_tokens.weight"
    logits = norm(hidden, "model.norm") @ take(head).T
    # Readers refuse weights that they do not know.
    assert used == weights.keys()
    return logits[None]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": False}),
        ("llama", {"rope_parameters": LLAMA_3}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
    ],
)
def test_the_written_model_gives_the_logits_of_the_masked_one(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    model = tiny(tmp_path / "model", kind, **more)
    write(FORM, tmp_path / "out", Pruned(model, cut(model, MASK), MASK))
    (batch,) = model.batches(model.tokenize(["ab a b bb a"]))
    expected = model.logits(batch, gates=model.gates(MASK.keep), vocabulary=True)[0]
    found = read_logits(tmp_path / "out", batch.tensors["input_ids"])
    torch.testing.assert_close(found[0, -1], expected, atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("nemotron-nas", ["DeciLMForCausalLM"])
    assert [block["attention"]["no_op"] for block in config["block_configs"]] == [False, True, False]
    # For vLLM, which knows the type by its class; MLX would be asked whether the class may run.
    classed = json.loads((tmp_path / "out" / "vllm" / "config.json").read_text())
    assert classed.pop("auto_map") == {"AutoConfig": "configuration_nemotron_nas.NemotronNasConfig"}
    assert {**config, **classed} == config


def test_the_class_of_the_configuration_has_its_layers_as_attributes(tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    write(FORM, tmp_path / "out", Pruned(model, cut(model, MASK), MASK))
    config = AutoConfig.from_pretrained(tmp_path / "out" / "vllm", trust_remote_code=True)
    assert [block.attention.no_op for block in config.block_configs] == [False, True, False]
    assert config.block_configs[2].attention.n_heads_in_group == 2
    assert not hasattr(config.block_configs[1].attention, "n_heads_in_group")


def test_the_number_of_key_value_heads_of_a_layer_is_that_of_its_weights(tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    merged = cut(model, WHOLE)
    attention = merged.network.model.layers[1].self_attn
    # All four query heads share one key-value head.
    for name in ("k_proj", "v_proj"):
        setattr(attention, name, nn.Linear(32, 8, bias=False))
    attention.num_key_value_groups = 4
    tmp_path.joinpath("out").mkdir()
    save_nemotron_nas(tmp_path / "out", merged)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [block["attention"]["n_heads_in_group"] for block in config["block_configs"]] == [2, 4, 2]
    with torch.no_grad():
        expected = merged.network(input_ids=IDS).logits
    torch.testing.assert_close(read_logits(tmp_path / "out", IDS), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hidden", [576, 896, 960, 2048, 3584, 4096, 5120])
@pytest.mark.parametrize("width", [256, 1536, 2560, 4864, 8960, 11008, 14336, 18944])
def test_readers_compute_the_width_of_a_feed_forward_block_from_its_factor(hidden: int, width: int) -> None:
    from cahp.models.nemotron_nas import choose_factor

    factor = round(choose_factor(width, hidden), 6)
    assert -(-int(2 * factor * hidden / 3) // 256) * 256 == width


@pytest.mark.parametrize(
    ("kind", "more", "mask", "adder", "reason"),
    [
        (
            "llama",
            {},
            [[1, 1], [1, 0], [0, 0]],
            "",
            "each layer must keep all heads or none, and layer 1 keeps 1 of 2; choose them with --method fisher-layers "
            "--min-per-layer 0 and a budget that is a multiple of 2, or with --even for --format standard",
        ),
        ("llama", {}, [[0, 0], [0, 0], [0, 0]], "", "readers need attention in at least one layer"),
        ("llama", {}, [[1, 1], [0, 0], [1, 1]], "mean ablation", "mean ablation needs one; use --recover refit"),
        ("llama", {"attention_bias": True}, [[1, 1], [0, 0], [1, 1]], "", "the output projections of this model have"),
        ("llama", {"intermediate_size": 300}, None, "", "300 wide, and readers round that up to a multiple of 256"),
        ("llama", {"head_dim": 16}, None, "", r"its 4 heads have 64 channels, .* width of the model for that \(32\)"),
        ("mistral", {"sliding_window": 8}, None, "", "it has a sliding window"),
        ("qwen3", {}, None, "", "it is of the architecture qwen3, and this form is written for llama, mistral, qwen2"),
    ],
)
def test_a_mask_or_model_that_the_form_cannot_hold_is_refused_with_the_reason(
    kind: str, more: dict[str, Any], mask: list[list[int]] | None, adder: str, reason: str, tmp_path: Path
) -> None:
    card = models.identify(save(tmp_path / "model", kind, **more))
    keep = None
    if mask is not None:
        keep = HeadMask(np.array(mask, dtype=bool))
    assert re.search(reason, str(refuse_nemotron_nas(card, keep, adder=adder)))


def test_a_refit_model_is_written_and_a_mean_ablation_is_refused(tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    pruned, _ = refit(model, MASK, fakes.sentences(24).inputs)
    written = write(FORM, tmp_path / "out", Pruned(model, pruned, MASK), provenance=Provenance(recovery="refit"))
    assert written["note"] is None
    with torch.no_grad():
        expected = pruned.network(input_ids=IDS).logits
    torch.testing.assert_close(read_logits(tmp_path / "out", IDS), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(OptionError, match=r"cannot be exported as nemotron-nas, since .* export it as compact"):
        formats.check_export(FORM, model.card, MASK, "mean")


def test_a_mask_without_the_first_attention_names_the_servers_that_need_it(tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    mask = HeadMask(np.array([[False, False], [True, True], [True, True]]))
    written = write(FORM, tmp_path / "out", Pruned(model, cut(model, mask), mask))
    assert "vLLM and SGLang need attention in the first layer" in written["note"]


def test_the_folder_is_refused_as_a_model_with_what_to_do(tmp_path: Path) -> None:
    model = tiny(tmp_path / "model")
    write(FORM, tmp_path / "out", Pruned(model, cut(model, MASK), MASK))
    with pytest.raises(ModelError, match=r"servers read and transformers does not; export the same mask as compact"):
        models.identify(str(tmp_path / "out"))


def test_servers_run_language_models_only(tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "classifier", "llama")))
    assert refuse_nemotron_nas(card) == "servers run causal language models only"


def test_an_impossible_mask_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    card = replace(models.identify(save(tmp_path / "model", "llama")), folder="")
    assert refuse_nemotron_nas(card) is None
    uneven = HeadMask(np.array([[True, True], [True, False], [False, False]]))
    assert "each layer must keep all heads or none" in str(refuse_nemotron_nas(card, uneven))
