"""The training loop: what it reports, how it is stopped, how it goes on, and which texts are held out."""

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
from cahp.models.reading import Divergences, hold_out
from cahp.models.surgery import separate
from cahp.models.training import Epoch, Hooks, Schedule, train
from cahp.tasks.answers import Source, Window
from cahp.values import Cancelled

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = Schedule(epochs=3, learning_rate=1e-3, batch=8)
#: The model has dropout, so random numbers matter. 44 texts: six batches an epoch, the last one smaller.
TEXTS, HELD_OUT = fakes.sentences(44), fakes.sentences(30, seed=5)


def trained(model: HeadModel, **options: Any) -> tuple[list[torch.Tensor], list[Epoch]]:
    student = separate(model)
    history = train(student, TEXTS, schedule=SCHEDULE, validation=HELD_OUT, hooks=Hooks(**options))
    return [parameter.detach() for parameter in student.network.parameters()], history


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def whole(model: HeadModel) -> tuple[list[torch.Tensor], list[Epoch]]:
    return trained(model)


# Before anything, within an epoch, at the end of one (where the held-out texts come), and after the last batch.
@pytest.mark.parametrize("step", [0, 4, 12, 18])
def test_stopped_training_is_exact(model: HeadModel, whole: tuple[list[torch.Tensor], list[Epoch]], step: int) -> None:
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


def make_text(start: int, *, length: int = 32) -> Window:
    ids = np.arange(start, start + length)
    return Window("", ids, np.zeros(length - 1), np.zeros(length - 1))


def make_repeat(source: Source, start: int, *, length: int = 16) -> Window:
    half = np.arange(start, start + length)
    return Window("", np.concatenate([[0], half, half]), np.zeros(length), np.zeros(length), source)


def test_a_fifth_of_each_kind_is_held_out_and_of_two_repeats_one() -> None:
    texts = [make_text(100 * place) for place in range(1, 21)]
    random = [make_repeat("random", 10_000 + 100 * place) for place in range(10)]
    # Their tokens are those of no window.
    passages = [make_repeat("passage", 20_000), make_repeat("passage", 30_000)]
    items = [*texts, *random, *passages]
    learned, held_out = hold_out(items)
    assert (held_out < 20).sum() == 4
    assert ((held_out >= 20) & (held_out < 30)).sum() == 2
    assert (held_out >= 30).sum() == 1
    assert sorted([*learned, *held_out]) == list(range(32))
    assert held_out.tolist() != hold_out(items, seed=1)[1].tolist()
    # A text that is held out is not learned where it stands again.
    texts = [f"text {place}" for place in range(20)]
    plain, held_out = hold_out(texts)
    again = list(texts)
    again[plain[3]] = texts[held_out[0]]
    pairs = [(text, "the same") for text in again]
    for items in (again, pairs):
        learned, tried = hold_out(items)
        assert tried.tolist() == held_out.tolist()
        assert learned.tolist() == [row for row in plain if row != plain[3]]
    # Where nothing else is left, the same texts are learned.
    assert len(hold_out(["text"] * 20)[0]) == 16


def test_no_model_is_compared_on_a_window_of_which_it_learned_a_passage() -> None:
    texts = [make_text(100 * place) for place in range(1, 21)]
    elsewhere = [make_repeat("passage", 10_000 + 100 * place) for place in range(3)]
    learned, held_out = hold_out([*texts, *elsewhere])
    tried = [row for row in held_out if row < 20]
    read, border, apart = (texts[row].ids[0] for row in (tried[0], tried[1], learned[0]))
    # One is in the middle of a held-out window, one has the last token of another, and one is held out itself.
    starts = iter([read + 8, border + 31])
    passages = []
    for row in (20, 21, 22):
        start = apart
        if row not in held_out:
            start = next(starts)
        passages.append(make_repeat("passage", start))
    now_learned, now_held_out = hold_out([*texts, *passages])
    assert now_learned.tolist() == learned.tolist()
    assert now_held_out.tolist() == [row for row in held_out if row != tried[0]]


def test_of_many_windows_eight_are_held_out_and_all_others_learned() -> None:
    texts = [make_text(100 * place) for place in range(1, 101)]
    _, fifth = hold_out([f"text {row}" for row in range(100)])
    learned, held_out = hold_out(texts)
    assert len(fifth) == 20
    assert len(held_out) == 8
    assert set(held_out) < set(fifth)
    assert sorted([*learned, *held_out]) == list(range(100))
    # A passage of a window that would be held out: the window is learned instead.
    passages = [make_repeat("passage", texts[held_out[0]].ids[8]), *(make_repeat("passage", 20_000) for _ in range(9))]
    now_learned, now_held_out = hold_out([*texts, *passages])
    assert 100 in now_learned
    assert held_out[0] in now_learned
    assert (now_held_out < 100).sum() == 8


@pytest.mark.parametrize(
    ("text", "repeats", "better"), [(0.1, 2.0, True), (0.1, 1.0, True), (0.1, 2.1, False), (0.2, 1.0, False)]
)
def test_a_repair_diverges_less_on_text_and_not_more_on_repeats(text: float, repeats: float, better: bool) -> None:
    before = Divergences(text=0.2, repeats=2.0, agreement=0.5, count=9)
    after = Divergences(text=text, repeats=repeats, agreement=0.6, count=9)
    assert after.is_better_than(before) is better
