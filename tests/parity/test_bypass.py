"""A bypass: masked = cut = saved = loaded again, whatever a batch holds, and token by token as all at once."""

from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
import zoo

from cahp import models
from cahp.exports.formats import model_form
from cahp.models import to_onnx
from cahp.models.bypass import WordChannels
from cahp.models.compact import Words, load_pruned, mix_words
from cahp.models.head_model import HeadModel
from cahp.models.loading import load_model
from cahp.models.saving import save_compact
from cahp.models.surgery import add_bypass, copy_network, cut
from cahp.values import HeadMask

pytestmark = pytest.mark.usefixtures("one_thread")

RANK = 3


def load(folder: Path, kind: str) -> HeadModel:
    if kind == "bert":
        return load_model(models.identify(str(zoo.save(folder, kind))))
    prompt = models.make_prompt("{text} it was", ("good", "bad"))
    return load_model(models.identify(str(zoo.save_language_model(folder, kind)), prompt=prompt))


def mask_of(model: HeadModel) -> HeadMask:
    """The first layer keeps no head, the last one all but one."""
    keep = np.ones((model.layers, model.heads), dtype=np.bool_)
    keep[0] = keep[-1, 0] = False
    return HeadMask(keep)


def with_bypass(model: HeadModel, other: HeadModel) -> HeadModel:
    """Give a copy of ``other`` the same random bypasses as any copy of the same ``model``."""
    generator = torch.Generator().manual_seed(5)
    for layer in range(model.layers):
        words = WordChannels(model, layer)
        down = 0.2 * torch.randn(RANK, words.width, generator=generator)
        up = torch.randn(model.card.hidden, RANK, generator=generator)
        add_bypass(other, layer, words.merge(down), up)
    return other


def logits(model: HeadModel, gates: torch.Tensor | None = None, size: int | None = None) -> torch.Tensor:
    texts = [text for text in fakes.sentences(12).inputs if isinstance(text, str)]
    texts = [" ".join(text.split()[: 2 + row]) for row, text in enumerate(texts)]
    found = torch.zeros(len(texts), len(model.card.labels))
    for batch in model.batches(model.tokenize(texts), size=size):
        found[batch.rows] = model.logits(batch, gates=gates)
    return found


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "gemma2", "gpt_neox"])
def test_masked_cut_saved_and_loaded_again_are_one(kind: str, tmp_path: Path) -> None:
    model = load(tmp_path / "model", kind)
    mask = mask_of(model)
    masked = logits(with_bypass(model, copy_network(model)), model.gates(mask.keep))
    pruned = with_bypass(model, cut(model, mask))
    found = logits(pruned)
    assert (found - logits(cut(model, mask))).abs().max() > 0.01
    # One text in each batch, or all of them.
    for again in (masked, logits(pruned, size=1), logits(pruned, size=10**6)):
        torch.testing.assert_close(again, found, atol=1e-5, rtol=1e-5)
    (tmp_path / "compact").mkdir()
    save_compact(tmp_path / "compact", pruned, mask)
    network = load_pruned(tmp_path / "compact")
    torch.testing.assert_close(logits(pruned.with_network(network)), found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_padding_on_either_side_changes_nothing(kind: str, tmp_path: Path) -> None:
    model = load(tmp_path, kind)
    network = with_bypass(model, cut(model, mask_of(model))).network
    alone = network(torch.tensor([[7, 9, 11, 13, 15]])).logits
    for ids in ([7, 9, 11, 13, 15, 0, 0], [0, 0, 7, 9, 11, 13, 15]):
        batch = torch.tensor([ids, [8] * 7])
        found = network(batch, attention_mask=(batch > 0).long()).logits
        torch.testing.assert_close(found[0, batch[0] > 0], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2"])
def test_it_writes_on_with_its_state_as_without(kind: str, tmp_path: Path) -> None:
    model = load(tmp_path, kind)
    network = with_bypass(model, cut(model, mask_of(model))).network
    given = torch.tensor([[7, 9, 11, 13, 15], [0, 0, 8, 10, 12]])
    attended = (given > 0).long()
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    written = network.generate(given, attention_mask=attended, **options)
    assert torch.equal(written[:1], fakes.write_on(network, given[:1], 12))
    assert torch.equal(written[1:, 2:], fakes.write_on(network, given[1:, 2:], 12))
    beams = network.generate(given, attention_mask=attended, num_beams=3, use_cache=True, **options)
    assert torch.equal(beams, network.generate(given, attention_mask=attended, num_beams=3, use_cache=False, **options))


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:# The axis name.*:UserWarning"
)
@pytest.mark.parametrize("kind", [pytest.param("bert", marks=pytest.mark.nightly), "llama"])
def test_an_onnx_file_carries_it_and_its_state(kind: str, tmp_path: Path) -> None:
    model = load(tmp_path / "model", kind)
    mask = mask_of(model)
    (tmp_path / "compact").mkdir()
    save_compact(tmp_path / "compact", with_bypass(model, cut(model, mask)), mask)
    network = load_pruned(tmp_path / "compact", attn_implementation="eager")
    ids = np.random.default_rng(0).integers(4, network.config.vocab_size, (3, 12))
    example = {"input_ids": torch.tensor(ids), "attention_mask": torch.ones(3, 12, dtype=torch.long)}
    to_onnx.write(network, example, tmp_path / "model.onnx", cached=kind != "bert")
    names: dict[str, Any] = {"folder": tmp_path}
    exec(model_form("onnx").reads, names)
    # Longer and shorter texts, in pieces where there is a cache.
    for length in (12, 7):
        real = (np.arange(12) < [[length], [9], [5]]).astype(np.int64)
        found = names["answer"]({"input_ids": ids, "attention_mask": real})
        with torch.no_grad():
            expected = network(torch.tensor(ids), attention_mask=torch.tensor(real)).logits.numpy()
        read = real.astype(bool) if kind != "bert" else np.ones(3, dtype=bool)
        np.testing.assert_allclose(found[read], expected[read], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_what_it_sees_of_the_words(causal: bool) -> None:
    rows = torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(1)).double()
    parts = [rows] * (5 + (not causal))
    mixed, _ = mix_words(parts, Words(None), causal=causal)
    x = rows[0].numpy()
    for token in range(5):
        before = x[token - 1] if token else np.zeros(2)
        after = x[token + 1] if token < 4 else np.zeros(2)
        expected = [x[token], before] if causal else [x[token], before, after]
        for span in (8, 32):
            rest = 1 - 1 / span
            if causal:
                weights = [rest ** (token - other) / span if other <= token else 0.0 for other in range(5)]
            else:
                weights = [rest ** abs(token - other) * (1 - rest) / (1 + rest) for other in range(5)]
            expected.append(weights @ x)
        expected.append(x[: token + 1].mean(0) if causal else x.mean(0))
        np.testing.assert_allclose([part[0, token].numpy() for part in mixed], expected, atol=1e-12)
