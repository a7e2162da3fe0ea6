"""The training loop: what it reports, how it is stopped, and that it goes on as if nothing had come between."""

import copy
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cahp import models
from cahp.models.head_model import HeadModel
from cahp.models.loading import load_model
from cahp.models.training import Epoch, Hooks, Schedule, train
from cahp.values import Cancelled

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = Schedule(epochs=3, learning_rate=1e-3, batch=8)
#: The model has dropout, so random numbers matter. 44 texts: six batches an epoch, the last one smaller.
TEXTS, HELD_OUT = fakes.sentences(44), fakes.sentences(30, seed=5)


def trained(model: HeadModel, **options: Any) -> tuple[list[torch.Tensor], list[Epoch]]:
    network = copy.deepcopy(model.network).requires_grad_(True)
    history = train(network, model, TEXTS, schedule=SCHEDULE, validation=HELD_OUT, hooks=Hooks(**options))
    return [parameter.detach() for parameter in network.parameters()], history


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def whole(model: HeadModel) -> tuple[list[torch.Tensor], list[Epoch]]:
    return trained(model)


# Before anything, within an epoch, at the end of one (where the held-out texts come), and after the last batch.
@pytest.mark.parametrize("step", [0, 4, 12, 18])
def test_a_training_that_was_stopped_ends_with_the_same_weights_bit_for_bit(
    model: HeadModel, whole: tuple[list[torch.Tensor], list[Epoch]], step: int
) -> None:
    checkpoint = fakes.Memory()
    with pytest.raises(Cancelled):
        trained(model, checkpoint=checkpoint, progress=fakes.stop_at(step=step), watch=lambda _: None)
    # Whatever else draws random numbers in between.
    torch.manual_seed(step)
    seen: list[int] = []
    weights, history = trained(model, checkpoint=checkpoint, progress=lambda stage, done, total: seen.append(done))
    # Six batches an epoch, and it goes on after the last whole one.
    assert seen[0] == max(0, step - 1) // 6 * 6
    assert same(weights, whole[0])
    assert not same(weights, list(model.network.parameters()))
    assert history == whole[1]
    assert checkpoint.kept is None


def test_the_rate_rises_for_a_tenth_of_the_steps_and_falls_to_nothing(model: HeadModel) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def note(self: torch.optim.AdamW, *args: Any, **options: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", note)
        checkpoint = fakes.Memory()
        with pytest.raises(Cancelled):
            trained(model, checkpoint=checkpoint, progress=fakes.stop_at(step=5))
        trained(model, checkpoint=checkpoint)
    # Two of 18 steps warm up: 0, 1/2, 1, then 15/16, 14/16, ..., 1/16 of the highest rate.
    expected = [0.0, 0.5, *(left / 16 for left in range(16, 0, -1))]
    assert np.allclose(rates, np.array([*expected[:5], *expected]) * SCHEDULE.learning_rate)


@pytest.mark.parametrize(("of_network", "of_tokenizer"), [(None, "[PAD]"), (-1, "[PAD]"), (0, "[SEP]")])
def test_a_causal_classifier_knows_its_padding(tmp_path: Path, of_network: int | None, of_tokenizer: str) -> None:
    folder = fakes.save_language_model(tmp_path, family="llama")
    fakes.configure(folder, pad_token_id=of_network)
    fakes.configure(folder, "tokenizer_config.json", pad_token=of_tokenizer)
    model = load_model(models.identify(str(folder)), device_name="cpu", labels=("bad", "good"))
    assert model.tokenizer.pad_token == "[PAD]"
    tokens = model.tokenize(["good film", "a bad film with a long plot"])
    (batch,) = model.batches(tokens)
    alone = [model.logits(one) for token in tokens for one in model.batches([token])]
    assert torch.allclose(model.logits(batch)[batch.rows.argsort()], torch.cat(alone), atol=1e-5)


def test_the_positions_of_mpt_have_a_name_of_their_own(tmp_path: Path) -> None:
    words = fakes.tokenizer(type_ids=False)
    config = AutoConfig.for_model("mpt", vocab_size=len(words), n_layers=2, n_heads=2, d_model=16, max_seq_len=40)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    model = models.load(str(tmp_path), device="cpu")
    assert model.longest == model.longest_context == model.card.longest_context == 40
