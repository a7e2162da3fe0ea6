"""What attention has besides queries, keys and values stays true when it is looked at, masked and cut."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo
from transformers import AutoModelForSequenceClassification

from cahp import models
from cahp.methods.ablation import _losses_without
from cahp.models.head_model import Batch, HeadModel
from cahp.models.surgery import cut, tail
from cahp.stages.evaluation import evaluate
from cahp.values import HeadMask, ModelError, OptionError, silent

TEXT = "the film was very good and the plot was not bad"


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., HeadModel]:
    def make(kind: str, **more: Any) -> HeadModel:
        return models.load(str(zoo.save(tmp_path / "model", kind, **more)), device="cpu")

    return make


def one_batch(model: HeadModel, *texts: str) -> Batch:
    (batch,) = model.batches(model.tokenize(texts or (TEXT, "a film")))
    return batch


def maps(model: HeadModel, batch: Batch) -> list[torch.Tensor]:
    seen: dict[int, torch.Tensor] = {}
    model.logits(batch, probe=lambda layer, weights: seen.update({layer: weights}))
    return [seen[layer] for layer in range(model.layers)]


def library(model: HeadModel, batch: Batch) -> Any:
    plain = AutoModelForSequenceClassification.from_pretrained(model.card.folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return plain(**batch.tensors, output_attentions=True)


def without_first(model: HeadModel) -> tuple[HeadMask, HeadModel]:
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[:, 0] = False
    mask = HeadMask(keep)
    pruned, batch = cut(model, mask), one_batch(model)
    masked = model.logits(batch, gates=model.gates(mask.keep))
    assert torch.allclose(pruned.logits(batch), masked, atol=1e-5)
    return mask, pruned


def test_an_attention_sink_takes_its_share_of_every_map_and_goes_with_its_head(made: Callable[..., HeadModel]) -> None:
    model = made("gpt_oss")
    batch = one_batch(model)
    found = maps(model, batch)
    assert all(0.05 < float(weights.sum(-1).max()) < 0.999 for weights in found)
    expected = library(model, batch).attentions[0].unflatten(1, (model.heads, 2)).mean(2)
    real = batch.tensors["attention_mask"].bool()[:, None, :, None]
    assert torch.allclose(found[0] * real, expected * real, atol=1e-5)
    _, pruned = without_first(model)
    whole = model.layer_modules[0].self_attn.sinks
    assert torch.equal(pruned.layer_modules[0].self_attn.sinks, whole[model.card.group :])


def test_a_soft_cap_bounds_the_scores_of_fused_and_looked_at_attention(made: Callable[..., HeadModel]) -> None:
    model = made("gemma2", attn_logit_softcapping=0.01)
    batch = one_batch(model, TEXT)
    assert torch.allclose(model.logits(batch), library(model, batch).logits, atol=1e-5)
    # Scores within a hundredth of each other: each token attends evenly to those before it.
    last = maps(model, batch)[0][0, :, -1]
    assert torch.allclose(last, torch.full_like(last, 1 / last.shape[-1]), rtol=0.05)


def test_nobody_looks_beyond_a_sliding_window(made: Callable[..., HeadModel]) -> None:
    model = made("mistral", sliding_window=3)
    batch = one_batch(model, TEXT)
    assert torch.allclose(model.logits(batch), library(model, batch).logits, atol=1e-5)
    length = batch.tensors["input_ids"].shape[1]
    behind = torch.arange(length)[:, None] - torch.arange(length)[None]
    for weights in maps(model, batch):
        assert bool((weights[..., (behind >= 3) | (behind < 0)] == 0).all())
        assert bool((weights[..., (behind < 3) & (behind >= 0)] > 0).all())
    without_first(model)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
        ("gemma2", {"sliding_window": 3}),
        ("gpt_oss", {"sliding_window": 3}),
    ],
)
def test_layers_with_own_reach_have_no_tails(kind: str, more: dict[str, Any], made: Callable[..., HeadModel]) -> None:
    model = made(kind, **more)
    assert model.family.own_arguments
    assert [tail(model, layer) for layer in range(model.layers)] == [None] * model.layers
    left: list[torch.Tensor] = []
    batch = one_batch(model)
    whole, state = model.logits(batch, leaving=left.append), model.enter(batch)
    assert torch.allclose(whole, library(model, batch).logits, atol=1e-5)
    for hidden in left:
        state = model.step(state)
        assert torch.allclose(state.hidden, hidden, atol=1e-5)
    # What methods go on from halfway is then answered whole.
    texts, keep = fakes.sentences(6), np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[1, 0] = False
    found = _losses_without(model, texts, HeadMask.full(model.layers, model.heads), silent)
    assert found[1 + model.heads] == pytest.approx(evaluate(model, texts, mask=HeadMask(keep)).losses.mean(), abs=1e-5)


@pytest.mark.parametrize("kind", ["qwen3", "olmo2"])
def test_norms_of_queries_and_keys_by_head_or_over_all_heads_stay(kind: str, made: Callable[..., HeadModel]) -> None:
    model = made(kind)
    _, pruned = without_first(model)
    before, after = (one.layer_modules[0].self_attn for one in (model, pruned))
    assert after.q_norm.weight.shape == before.q_norm.weight.shape
    assert after.v_proj.weight.shape[0] < before.v_proj.weight.shape[0]
    # What is normalised over all heads must be whole when it is.
    assert (after.q_proj.weight.shape == before.q_proj.weight.shape) is (kind == "olmo2")


def test_latent_attention_loses_its_heads_and_keeps_what_they_share(made: Callable[..., HeadModel]) -> None:
    model = made("deepseek_v3")
    _, pruned = without_first(model)
    before, after = (one.layer_modules[0].self_attn for one in (model, pruned))
    for name in ("q_b_proj", "kv_b_proj"):
        assert getattr(after, name).out_features * 4 == getattr(before, name).out_features * 3
    assert torch.equal(after.kv_a_proj_with_mqa.weight, before.kv_a_proj_with_mqa.weight)


@pytest.mark.parametrize("kind", ["t5", "umt5", "mpnet", "bloom", "mpt", "deberta", "layoutlmv3"])
def test_relative_positions_keep_the_heads_that_stay_in_their_places(kind: str, made: Callable[..., HeadModel]) -> None:
    model = made(kind)
    # Another head in each layer: a bias in a wrong place would be seen.
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[np.arange(model.layers), np.arange(model.layers) + 1] = False
    batch = one_batch(model)
    masked = model.logits(batch, gates=model.gates(keep))
    pruned = cut(model, HeadMask(keep))
    assert torch.allclose(pruned.logits(batch), masked, atol=1e-5)
    whole, left = (maps(one, one_batch(one, TEXT))[0] for one in (model, pruned))
    assert torch.allclose(left, whole[:, np.flatnonzero(keep[0]).tolist()], atol=1e-5)


@pytest.mark.parametrize(("kind", "more"), [("gpt_bigcode", {}), ("llama", {"num_key_value_heads": 1})])
def test_heads_of_one_shared_key_are_counted(kind: str, more: dict[str, Any], made: Callable[..., HeadModel]) -> None:
    model = made(kind, **more)
    assert (model.heads, model.card.group) == (4, 1)
    _, pruned = without_first(model)
    assert pruned.head_counts == (3, 3)
    if kind == "llama":
        before, after = (one.layer_modules[0].self_attn for one in (model, pruned))
        assert after.q_proj.out_features * 4 == before.q_proj.out_features * 3
        assert torch.equal(after.v_proj.weight, before.v_proj.weight)


def test_a_hybrid_shows_its_attention_layers_with_their_index_in_the_model(made: Callable[..., HeadModel]) -> None:
    model = made("jamba")
    assert (model.layers, model.card.places) == (2, (1, 3))
    assert any("2 of its 4 layers have attention heads" in note for note in model.card.notes)


def test_a_map_that_can_only_be_read_is_not_edited(made: Callable[..., HeadModel]) -> None:
    model = made("xlm")
    batch = one_batch(model)
    assert torch.allclose(maps(model, batch)[1], library(model, batch).attentions[1], atol=1e-5)
    with pytest.raises(OptionError, match="read but not replaced"):
        model.logits(batch, edit=lambda _, weights: weights)


def test_heads_that_cannot_be_cut_are_shut(made: Callable[..., HeadModel]) -> None:
    model = made("lilt")
    assert any(note.startswith("no cut") for note in model.card.notes)
    _, pruned = without_first(model)
    assert pruned.parameters == model.parameters


def test_a_tokenizer_that_does_not_end_a_text_is_refused_where_the_answer_is_read_there(tmp_path: Path) -> None:
    folder = zoo.save(tmp_path / "model", "bart", eos_token_id=5)
    with pytest.raises(ModelError, match="does not add to a text"):
        models.load(str(folder), device="cpu")


def test_a_context_of_a_million_tokens_is_no_reason_to_refuse_and_a_billion_layers_are(tmp_path: Path) -> None:
    zoo.configuration("mistral", max_position_embeddings=1_048_576).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no tokenizer"):  # which is looked for next
        models.identify(str(tmp_path))
    said = (tmp_path / "config.json").read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 1000000000')
    (tmp_path / "config.json").write_text(said)
    with pytest.raises(ModelError, match="num_hidden_layers is more than"):
        models.identify(str(tmp_path))


def test_sparse_attention_reads_texts_that_it_attends_to_as_a_whole(made: Callable[..., HeadModel]) -> None:
    model = made("big_bird", block_size=2, num_random_blocks=1)
    assert model.max_length == (5 + 2 * 1) * 2
    batch = one_batch(model, " ".join(fakes.WORDS))
    assert torch.allclose(model.logits(batch), library(model, batch).logits, atol=1e-5)


def test_positions_counted_from_the_padding_are_never_more_than_there_are(made: Callable[..., HeadModel]) -> None:
    model = made("data2vec-text", max_position_embeddings=16)
    assert model.max_length == 15
    assert model.logits(one_batch(model, " ".join(fakes.WORDS))).isfinite().all()
