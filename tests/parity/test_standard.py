"""An even model as a plain checkpoint: its own class with fewer heads, read by transformers alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
import zoo
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from cahp import models
from cahp.exports import formats
from cahp.exports.checkpoints import Provenance, write
from cahp.exports.form import Pruned
from cahp.models.head_model import HeadModel
from cahp.models.saving import refuse_standard
from cahp.models.surgery import cut
from cahp.recoveries import RECOVERIES
from cahp.stages.recovery import mean_ablate
from cahp.values import HeadMask, OptionError

pytestmark = pytest.mark.usefixtures("one_thread", "read_back_here")

STANDARD = formats.model_form("standard")
TEXTS = fakes.sentences(12).inputs
#: Tiny classifiers whose configuration states the size of a head: one that derives it if it is missing, one with a
#: norm of queries and keys, one with queries, keys and values in one matrix, and one with a single key-value head.
STATED: dict[str, dict[str, object]] = {"llama": {}, "qwen3": {}, "phi3": {}, "gemma": {"num_key_value_heads": 1}}


def even(model: HeadModel, kept: int) -> HeadMask:
    """Other heads in every layer, and equally many."""
    order = np.random.default_rng(1).random((model.layers, model.heads)).argsort(axis=1)
    return HeadMask(order < kept)


@pytest.mark.parametrize("kind", STATED)
def test_transformers_alone_reads_an_even_model_as_the_masked_one(kind: str, tmp_path: Path) -> None:
    model = models.load(str(zoo.save(tmp_path / "model", kind, seed=3, **STATED[kind])), device="cpu")
    mask = even(model, model.heads // 2)
    write(STANDARD, tmp_path / "out", Pruned(model, cut(model, mask), mask, TEXTS))
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    (batch,) = model.batches(model.tokenize(TEXTS[:5]))
    expected = model.logits(batch, gates=model.gates(mask.keep))
    with torch.no_grad():
        torch.testing.assert_close(network(**batch.tensors).logits, expected, atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    # Of 4 query heads in 2 groups a group is left; of 4 that share a key-value head two are left, and that head.
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]) == (2, 1, 8)
    # By the old name, too: MLX does not read ``rope_parameters``.
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert "cahp" not in config
    assert not list((tmp_path / "out").glob("*.py"))


@pytest.mark.parametrize("recover", [False, True])
def test_a_language_model_writes_the_same_text_with_its_cache(recover: bool, tmp_path: Path) -> None:
    model = models.load(str(fakes.save_language_model(tmp_path / "model", family="llama")), device="cpu")
    mask = even(model, 2)
    pruned = mean_ablate(model, mask, TEXTS) if recover else cut(model, mask)
    write(
        STANDARD,
        tmp_path / "out",
        Pruned(model, pruned, mask, TEXTS),
        provenance=Provenance(recovery="mean" if recover else "none"),
    )
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    # A mean ablation needs a bias of the output projection, which Llama has with those of queries, keys and values.
    assert network.config.attention_bias is recover
    if recover:
        assert not network.model.layers[0].self_attn.q_proj.bias.any()
        assert network.model.layers[0].self_attn.o_proj.bias.any()
    asked = torch.tensor([[2, 9, 14, 5]])
    with torch.no_grad():
        ours, theirs = pruned.network(input_ids=asked).logits, network(input_ids=asked).logits
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
        written = asked
        for _ in range(12):
            logits = pruned.network(input_ids=written).logits[:, -1]
            logits[:, network.config.eos_token_id] = -torch.inf
            written = torch.cat([written, logits.argmax(-1, keepdim=True)], dim=1)
        found = network.generate(asked, min_new_tokens=12, max_new_tokens=12, do_sample=False)
        assert found.tolist() == written.tolist()


@pytest.mark.parametrize("kind", ["bert", "gpt_neox", "t5"])
def test_a_model_whose_head_size_is_derived_is_refused_with_what_it_can_be(kind: str, tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", kind)))
    reason = refuse_standard(card)
    assert reason is not None
    assert "fewer heads would be larger ones" in reason
    with pytest.raises(OptionError, match=r"cannot be exported as standard, since .*; export it as compact or drop-in"):
        formats.check_export(STANDARD, card)


def test_a_number_of_heads_that_the_class_refuses_is_refused(tmp_path: Path) -> None:
    shape = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 4}
    card = models.identify(str(zoo.save(tmp_path / "model", "llama", **shape)))
    # Llama's width of 32 must be a multiple of the number of heads.
    assert refuse_standard(card, units=4) is None
    assert "its class cannot have fewer heads" in str(refuse_standard(card, units=3))


def test_a_bias_that_a_class_cannot_hold_is_refused_before_anything_is_recovered(tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", "qwen2")))
    mask = HeadMask(np.array([[True, False], [False, True]]))
    formats.check_export(STANDARD, card, mask, "refit")
    with pytest.raises(OptionError, match=r"no bias in the output projection of its attention.*export it as compact"):
        formats.check_export(STANDARD, card, mask, "mean")
    with pytest.raises(OptionError, match="cannot be exported as drop-in, since its output projections have no bias"):
        formats.check_export(formats.model_form("drop-in"), card, mask, "mean")


@pytest.mark.parametrize("form", ["standard", "drop-in"])
def test_a_refused_bias_names_the_recovery_of_it(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", "qwen2")))
    shift = replace(RECOVERIES["refit"], name="shift", noun="shift", adds_biases=True)
    baseline = replace(RECOVERIES["refit"], name="baseline", baseline=True)
    monkeypatch.setattr(formats, "RECOVERIES", {**RECOVERIES, "shift": shift, "baseline": baseline})
    with pytest.raises(OptionError, match=r"no bias.*, and shift needs one"):
        formats.check_export(formats.model_form(form), card, recover="shift")
    # To be applied in any case is another thing than to add biases.
    formats.check_export(formats.model_form(form), card, recover="baseline")


def test_an_uneven_mask_is_refused_with_the_option_that_makes_it_even(tmp_path: Path) -> None:
    card = models.identify(str(zoo.save(tmp_path / "model", "llama")))
    with pytest.raises(OptionError, match="--even chooses them, and the mask keeps 1 to 2; export it as compact"):
        formats.check_export(STANDARD, card, HeadMask(np.array([[True, True], [False, True]])))
