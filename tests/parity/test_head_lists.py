"""The function of the guide that closes heads in other tools gives the logits of the masked model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docs
import fakes
import numpy as np
import pytest
import torch

from cahp import models
from cahp.exports.masks import MaskOrigin, mask_json, mask_pattern
from cahp.models.surgery import cut
from cahp.values import HeadMask


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("apart", [False, True], ids=["as nnsight has them", "as TransformerLens has them"])
def test_closing_heads_before_the_output_projection_is_the_mask(
    apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama")), device="cpu")
    mask = HeadMask(np.random.default_rng(2).random((model.layers, model.heads)) < 0.6)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "head_mask.json").write_bytes(mask_json(mask, MaskOrigin("model", "random", 3)))
    assert json.loads((tmp_path / "out" / "head_mask.json").read_text())["keep"] == mask.keep.astype(int).tolist()
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    (code,) = (block for block in docs.blocks("assets/docs/export.md", "python") if "def close_heads" in block)
    exec(code, given)

    def close(layer: int) -> Any:
        def hook(_: torch.nn.Module, entering: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            context = entering[0].clone()
            if not apart:
                return (given["close_heads"](context, layer),)
            heads = context.unflatten(-1, (model.network.config.num_attention_heads, -1))
            return (given["close_heads"](heads.flatten(-2), layer).view_as(heads).flatten(-2),)

        return hook

    network, asked = cut(model, HeadMask.full(model.layers, model.heads)).network, torch.tensor([[5, 9, 14, 5]])
    for layer, block in enumerate(network.model.layers):
        block.self_attn.o_proj.register_forward_pre_hook(close(layer))
    expected = cut(model, mask).network(input_ids=asked).logits
    torch.testing.assert_close(network(input_ids=asked).logits, expected, atol=1e-5, rtol=1e-5)


def test_the_press_of_the_guide_takes_its_pattern_from_the_exported_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # kvpress itself needs an older transformers: its class is stood in for.
    press = type("DuoAttentionPress", (SimpleNamespace,), {})
    monkeypatch.setitem(sys.modules, "kvpress", SimpleNamespace(DuoAttentionPress=press))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    mask = HeadMask(np.array([[True, False], [False, False]]))
    Path("full_attention_heads.tsv").write_bytes(mask_pattern(mask))
    names: dict[str, Any] = {}
    (code,) = (block for block in docs.blocks("assets/docs/export.md", "python") if "from kvpress" in block)
    exec(code, names)
    first, latest, pattern = names["press"].load_attention_pattern(None)
    assert (first, latest, pattern.tolist()) == (4, 64, [[1, 0], [0, 0]])
    assert names["press"].head_compression_ratio == 0.75
