"""Other tools read what is exported, by the code of the guide; each is skipped where it is missing."""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import guide
import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from cahp import models
from cahp.exports.masks import MaskOrigin, mask_json, mask_pattern
from cahp.models import saving
from cahp.models.compact import load_pruned
from cahp.models.surgery import cut
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

#: Two groups of two query heads in each of three layers.
MASK = HeadMask(np.array([[True, False], [False, True], [True, True]]))
SHAPE = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}


def code_of_guide(name: str) -> str:
    (code,) = (block for block in guide.blocks("assets/docs/do/masks.md", "python") if name in block)
    return code


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_lm_evaluation_harness_finds_a_compact_models_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = fakes.teach(fakes.save_language_model(tmp_path / "model", family="llama", **SHAPE))
    model = models.load(str(source), device="cpu")
    (tmp_path / "folder").mkdir()
    words = fakes.tokenizer(type_ids=False)
    words.eos_token = "[SEP]"
    # As tokenizers of causal models do, it ends no text by itself.
    words.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    words.save_pretrained("folder")
    saving.save_compact(Path("folder"), cut(model, MASK), MASK)
    texts = fakes.sentences(40, seed=5)
    rows = [{"text": text, "label": int(label)} for text, label in zip(texts.first, texts.labels, strict=True)]
    Path("rows.json").write_text("\n".join(map(json.dumps, rows)))
    task = {
        "task": "local",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.json"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": fakes.PROMPTS["causal"].replace("{text}", "{{text}}"),
        "doc_to_choice": list(fakes.ANSWERS),
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}],
    }
    names: dict[str, Any] = {"task": task}
    exec(code_of_guide("lm_eval").replace('"lambada_openai"', "task"), names)
    network, right = load_pruned("folder"), 0
    answers = words.convert_tokens_to_ids(list(fakes.ANSWERS))
    for row in rows:
        asked = words(fakes.PROMPTS["causal"].replace("{text}", row["text"]), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            right += int(network(torch.tensor([asked])).logits[0, -1, answers].argmax()) == row["label"]
    assert names["results"]["results"]["local"]["acc,none"] == pytest.approx(right / 40)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tool", ["transformer_lens", "nnsight"])
def test_a_tool_that_looks_in_closes_masked_heads(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(tool, reason=f"{tool} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama", **SHAPE)), device="cpu")
    Path("out").mkdir()
    Path("out/head_mask.json").write_bytes(mask_json(MASK, MaskOrigin("model", "random", {"attained": MASK.count})))
    tokens = torch.tensor([[5, 9, 14, 5]])
    # In a file, since nnsight reads the source of the block.
    Path("code.py").write_text(f"{code_of_guide('def close_heads')}\n{code_of_guide(f'from {tool}')}")
    names = runpy.run_path("code.py", {"tokens": tokens})
    expected = cut(model, MASK).network(input_ids=tokens).logits
    assert not torch.allclose(model.network(input_ids=tokens).logits, expected, atol=1e-2)
    torch.testing.assert_close(names["logits"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("apart", [False, True], ids=["as nnsight has them", "as TransformerLens has them"])
def test_closing_heads_before_outputs_is_the_mask(apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama")), device="cpu")
    mask = HeadMask(np.random.default_rng(2).random((model.layers, model.heads)) < 0.6)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "head_mask.json").write_bytes(mask_json(mask, MaskOrigin("model", "random", 3)))
    assert json.loads((tmp_path / "out" / "head_mask.json").read_text())["keep"] == mask.keep.astype(int).tolist()
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    exec(code_of_guide("def close_heads"), given)

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


def test_the_press_of_the_guide_takes_its_pattern_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # kvpress itself needs an older transformers: its class is stood in for.
    press = type("DuoAttentionPress", (SimpleNamespace,), {})
    monkeypatch.setitem(sys.modules, "kvpress", SimpleNamespace(DuoAttentionPress=press))  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    mask = HeadMask(np.array([[True, False], [False, False]]))
    Path("full_attention_heads.tsv").write_bytes(mask_pattern(mask))
    names: dict[str, Any] = {}
    exec(code_of_guide("from kvpress"), names)
    first, latest, pattern = names["press"].load_attention_pattern(None)
    assert (first, latest, pattern.tolist()) == (4, 64, [[1, 0], [0, 0]])
    assert names["press"].head_compression_ratio == 0.75
