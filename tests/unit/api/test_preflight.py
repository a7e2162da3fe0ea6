"""What a model is said to need before it is used."""

from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from cahp import models
from cahp.api import preflight
from cahp.features.abilities.section import ITEM_TOKENS
from cahp.models.cards import ModelCard
from cahp.models.identity import describe_config
from cahp.run import measurements
from cahp.stages.latency import flops
from cahp.store import Store
from cahp.terminal.printing import preflight_lines


def card(*, labels: int = 2) -> ModelCard:
    """Six layers of 12 heads of 32 channels."""
    names = tuple(str(index) for index in range(labels))
    return ModelCard("m", None, "bert", 6, 12, 32, 384, names, "", "", details={"bytes": 0, "parameters": 0})


def test_a_supported_model_is_described_without_its_weights(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("the weights were read"))
    found = preflight.preflight(models.preview(str(model)))
    assert (found["layers"], found["heads"], found["family"]) == (3, 4, "bert")
    assert found["labels"] == ["bad", "good"]


def test_the_type_of_weights_is_named_where_they_have_16_bits(tmp_path: Path) -> None:
    file = fakes.save_model(tmp_path) / "model.safetensors"
    whole = preflight.preflight(models.preview(str(tmp_path)))
    save_file({name: weight.bfloat16() for name, weight in load_file(file).items()}, file, {"format": "pt"})
    halves = preflight.preflight(models.preview(str(tmp_path)))
    assert (whole["types"], halves["types"]) == ({"F32": whole["parameters"]}, {"BF16": whole["parameters"]})


def test_the_cache_of_a_language_model_is_that_of_the_heads_that_it_has(tmp_path: Path) -> None:
    card = models.preview(str(fakes.save_language_model(tmp_path, "causal", "llama")))
    # 12 groups with keys and values of 4 channels and 4 bytes; attention is two projections of 32 x 32 and of 16 x 32.
    found = preflight.preflight(card)
    assert (found["cached_bytes"], card.details["attention"]) == (12 * 32, 3 * (2 * 32 * 32 + 2 * 16 * 32))
    pruned = preflight.preflight(replace(card, kept=((1,), (0, 2), (0, 1, 2, 3))))
    assert "  cache    keys and values take 224 bytes per token" in list(preflight_lines(pruned))


def test_the_built_ins_are_listed_whether_or_not_their_package_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(one["available"] for one in preflight.builtins())
    for name in models.BUILTINS:
        fakes.other_package(monkeypatch, name, name="no_such_package")
    assert [one["available"] for one in preflight.builtins()] == [False] * len(models.BUILTINS)


def test_operations_are_those_that_a_forward_pass_takes(tmp_path: Path) -> None:
    for family in ("albert", "bert", "gpt2", "llama", "modernbert"):
        model = models.load(str(fakes.save_model(tmp_path / family, family)), device="cpu")
        assert measurements.operations(model.card) * 32 == pytest.approx(flops(model, length=32), rel=0.25), family


def test_time_grows_with_operations_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    # The built-in encoder has 12 squares of its hidden size a layer, and a token takes two operations of each.
    monkeypatch.setattr(measurements, "_speed", lambda: 2.0)
    minilm = replace(models.identify("minilm"), origin="another")
    assert measurements.estimate_seconds(minilm, tokens=5) == 5 * 6 * 12 * 384**2
    assert preflight.default_seconds(minilm) > measurements.estimate_seconds(minilm, tokens=4000 * 32)


def test_the_time_of_a_language_model_counts_its_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "_speed", lambda: 1e9)
    cards, shape = [], {"num_hidden_layers": 16, "hidden_size": 2048, "intermediate_size": 8192}
    shape |= {"num_attention_heads": 32, "num_key_value_heads": 8}
    for words in (1_000, 100_000):
        config = AutoConfig.for_model("llama", vocab_size=words, architectures=["LlamaForCausalLM"], **shape)
        config.save_pretrained(tmp_path / str(words))
        cards.append(describe_config(str(words), tmp_path / str(words)))
    small, large = cards
    assert small.task.predicts_often
    assert measurements.operations(large) - measurements.operations(small) == 2 * 2048 * 99_000
    # Choosing the heads takes 2.5 passes of 8,192 tokens; two models read 4,096 and 512, and the items of quick
    # abilities, and continue a text by 20 tokens, each as long as 16.
    tokens = 2.5 * 8192 + 2 * (4608 + ITEM_TOKENS[False] + 16 * 20)
    more = preflight.default_seconds(large) - preflight.default_seconds(small)
    assert more == pytest.approx(2 * 2048 * 99_000 * tokens / 1e9)


def test_a_model_that_was_evaluated_here_reads_at_the_pace_of_then() -> None:
    measured = replace(card(), origin="measured")
    measurements.record_pace(Store(), measured, tokens=2000, seconds=4)
    assert measurements.estimate_seconds(measured, tokens=500) == 1
    # Too few tokens to tell.
    measurements.record_pace(Store(), measured, tokens=10, seconds=4)
    assert measurements.estimate_seconds(measured, tokens=500) == 1


def test_memory_holds_the_weights_and_the_statistics_of_every_class() -> None:
    small, large, many = (preflight._memory(card(labels=n), size) for size, n in ((0, 2), (1 << 30, 2), (0, 77)))
    # In float32, beside the file that it comes from.
    assert large - small == 2 << 30
    # Two moments in float64, and as much again, for 32 x 32 cells of 72 heads and 75 more classes.
    assert many - small == 75 * 72 * 1024 * 8 * 4
